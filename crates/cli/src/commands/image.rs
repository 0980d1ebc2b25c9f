//! pull, and image import, ls, inspect and rm.

use std::process::ExitCode;

use anyhow::Result;
use hypeman_host::Host;
use hypeman_image::{Changes, Image, PullRequest};

use crate::args::{ImageCommand, ImageLimit};
use crate::each::each;
use crate::output;
use crate::progress::Terminal;

pub(crate) fn pull(host: &Host, limit: &ImageLimit, reference: &str) -> Result<()> {
    let request = PullRequest::of(reference);
    output::line(&host.pull_image(&request, limit.max_size, &Terminal::new())?.digest)
}

pub(crate) fn image(host: &Host, command: ImageCommand) -> Result<ExitCode> {
    match command {
        ImageCommand::Import { limit, source, name, cmd } => {
            let (changes, progress) = (Changes { cmd }, Terminal::new());
            let image = host.import_image(&source, name.as_deref(), &changes, limit.max_size, &progress)?;
            output::line(&image.digest)?;
        }
        ImageCommand::Ls { quiet: true, .. } => {
            host.list_images()?.iter().try_for_each(|image| output::line(&image.digest))?;
        }
        ImageCommand::Ls { quiet: false, format } => {
            let header = ["NAME", "DIGEST", "IMPORTED", "SIZE"];
            output::list(format.format, &header, &host.list_images()?, row)?;
        }
        ImageCommand::Inspect(names) => {
            let images = names.names.iter().map(|name| host.image(name)).collect::<Result<Vec<_>, _>>()?;
            output::documents(&images)?;
        }
        ImageCommand::Rm(names) => {
            return Ok(each(&names.names, |name| {
                host.remove_image(name)?;
                output::line(name)
            }));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn row(image: &Image) -> Vec<String> {
    let name = match &image.names[..] {
        [] => "-".to_owned(),
        [name] => name.clone(),
        [name, others @ ..] => format!("{name} and {} more", others.len()),
    };
    let digest = image.digest.chars().skip("sha256:".len()).take(12).collect();
    vec![name, digest, format!("{} ago", output::ago(image.imported)), crate::size::show(image.size)]
}
