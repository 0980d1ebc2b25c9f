//! Labels, docker's word for tags.

use std::collections::BTreeMap;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Labels {
    /// Set a label; `ps --filter label=` finds it
    #[arg(short, long = "label", value_name = "KEY[=VALUE]", value_parser = parse)]
    labels: Vec<(String, String)>,
}

impl Labels {
    /// The labels by key. The last one of a key counts.
    pub(crate) fn tags(&self) -> BTreeMap<String, String> {
        self.labels.iter().cloned().collect()
    }
}

fn parse(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    match key {
        "" => Err("the key is empty; it has to be KEY or KEY=VALUE".to_owned()),
        key => Ok((key.to_owned(), value.to_owned())),
    }
}
