//! An image, as the API describes it.

use std::collections::BTreeMap;

use hypeman_image::Image;
use hypeman_record::pull::{Progress, Pull};
use hypeman_wire::Tags;
use hypeman_wire::image::{self as wire, ImageStatus};

use super::PLATFORM;
use crate::pulls::Job;

/// Describes an image that is here, by one of its whole names.
pub(crate) fn ready(name: &str, image: &Image, tags: &BTreeMap<String, String>) -> wire::Image {
    let config = &image.config;
    let words = |words: &Vec<String>| Some(words.clone()).filter(|words| !words.is_empty());
    let variables = config.env.iter().filter_map(|variable| variable.split_once('='));
    wire::Image {
        status: ImageStatus::Ready,
        size_bytes: Some(image.size),
        entrypoint: words(&config.entrypoint),
        cmd: words(&config.cmd),
        env: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        working_dir: Some(config.working_dir.clone()).filter(|directory| !directory.is_empty()),
        created_at: image.imported,
        ..bare(name, &image.digest, tags, image.imported)
    }
}

/// Describes an image that is being pulled; `place` is its place among those that wait.
pub(crate) fn pulled(job: &Job, place: Option<u32>) -> wire::Image {
    let pull = &job.pull;
    wire::Image {
        status: job.status(),
        queue_position: place,
        ..bare(&pull.name, &pull.digest, &pull.tags, pull.asked)
    }
}

/// Describes an image by the record of its pull.
pub(crate) fn recorded(pull: &Pull) -> wire::Image {
    let (status, error) = match &pull.progress {
        Progress::Failed { reason, .. } => (ImageStatus::Failed, Some(reason.clone())),
        // Another server pulls it.
        Progress::Asked | Progress::Done => (ImageStatus::Pulling, None),
    };
    wire::Image { status, error, ..bare(&pull.name, &pull.digest, &pull.tags, pull.asked) }
}

fn bare(name: &str, digest: &str, tags: &BTreeMap<String, String>, at: jiff::Timestamp) -> wire::Image {
    wire::Image {
        name: name.to_owned(),
        digest: digest.to_owned(),
        platform: Some(PLATFORM.to_owned()),
        status: ImageStatus::Pending,
        queue_position: None,
        error: None,
        size_bytes: None,
        entrypoint: None,
        cmd: None,
        env: BTreeMap::new(),
        tags: Tags::from(tags),
        working_dir: None,
        created_at: at,
    }
}
