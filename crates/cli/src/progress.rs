//! Progress on a terminal, and none in a pipe.

use hypeman_image::Progress;
use indicatif::{ProgressBar, ProgressStyle};

use crate::escape::printable;
use crate::output;

/// A progress bar on standard error; indicatif draws nothing when that is no terminal.
#[derive(Debug)]
pub(crate) struct Terminal {
    bar: ProgressBar,
}

impl Terminal {
    pub(crate) fn new() -> Terminal {
        let bar = ProgressBar::no_length();
        bar.enable_steady_tick(std::time::Duration::from_millis(200)); // moves also while nothing is counted
        Terminal { bar }
    }
}

impl Progress for Terminal {
    fn start(&self, what: &str, total: Option<u64>) {
        self.bar.reset();
        let template = match total {
            Some(_) => "{msg} {wide_bar} {binary_bytes}/{binary_total_bytes}",
            None => "{spinner} {msg} {binary_bytes}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
        self.bar.set_message(printable(what).into_owned());
        match total {
            Some(total) => self.bar.set_length(total),
            None => self.bar.unset_length(),
        }
    }

    fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn warn(&self, message: &str) {
        self.bar.suspend(|| output::complain(format_args!("warning: {message}")));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
