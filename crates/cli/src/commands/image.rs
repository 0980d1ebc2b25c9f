//! pull, and image import, ls, inspect and rm.

use std::process::ExitCode;

use anyhow::Result;
use hypeman_image::{Changes, Image, Store};

use crate::args::{ImageCommand, ImageLimit};
use crate::context::Context;
use crate::each::each;
use crate::output;
use crate::progress::Terminal;

pub(crate) fn pull(context: &Context, limit: &ImageLimit, reference: &str) -> Result<()> {
    output::line(&images(context, limit).pull(reference, &Terminal::new())?.digest)
}

/// The images, with a limit of the user's.
fn images(context: &Context, limit: &ImageLimit) -> Store {
    let images = context.images.clone();
    match limit.max_size {
        Some(most) => images.with_most(most),
        None => images,
    }
}

pub(crate) fn image(context: &Context, command: ImageCommand) -> Result<ExitCode> {
    match command {
        ImageCommand::Import { limit, source, name, cmd } => {
            let image = images(context, &limit).import(
                &source,
                name.as_deref(),
                &Changes { cmd },
                &Terminal::new(),
            )?;
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
    let name = match &image.names[..] {
        [] => "-".to_owned(),
        [name] => name.clone(),
        [name, others @ ..] => format!("{name} and {} more", others.len()),
    };
    let digest = image.digest.chars().skip("sha256:".len()).take(12).collect();
    vec![name, digest, format!("{} ago", output::ago(image.imported)), crate::size::show(image.size)]
}
