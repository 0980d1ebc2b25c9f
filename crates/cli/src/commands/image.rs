//! pull, and image import, ls, inspect and rm.

use std::process::ExitCode;

use anyhow::Result;
use hypeman_image::{Changes, Image};

use super::each;
use crate::args::ImageCommand;
use crate::context::Context;
use crate::output;
use crate::progress::Terminal;

pub(crate) fn pull(context: &Context, reference: &str) -> Result<()> {
    output::line(&context.images.pull(reference, &Terminal::new())?.digest)
}

pub(crate) fn image(context: &Context, command: ImageCommand) -> Result<ExitCode> {
    match command {
        ImageCommand::Import { source, name, cmd } => {
            let image =
                context.images.import(&source, name.as_deref(), &Changes { cmd }, &Terminal::new())?;
            output::line(&image.digest)?;
        }
        ImageCommand::Ls { quiet: true, .. } => {
            context.images.list()?.iter().try_for_each(|image| output::line(&image.digest))?;
        }
        ImageCommand::Ls { quiet: false, format } => {
            let header = ["NAME", "DIGEST", "IMPORTED", "SIZE"];
            output::list(format.format, &header, &context.images.list()?, row)?;
        }
        ImageCommand::Inspect(names) => {
            let images =
                names.names.iter().map(|name| context.images.get(name)).collect::<Result<Vec<_>, _>>()?;
            output::documents(&images)?;
        }
        ImageCommand::Rm(names) => {
            return Ok(each(&names.names, |name| {
                // No instance appears with the image while we look for one.
                let _held = context.instances.lock()?;
                context.images.remove(name, &|digest| context.image_user(digest))?;
                output::line(name)
            }));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn row(image: &Image) -> Vec<String> {
    let name = if image.names.is_empty() { "-".to_owned() } else { image.names.join(", ") };
    let digest = image.digest.chars().skip("sha256:".len()).take(12).collect();
    vec![name, digest, format!("{} ago", output::ago(image.imported)), crate::size::show(image.size)]
}
