//! The guest's orders.

use std::fmt;

/// What the guest shall do; its `Display` is the kernel command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Number of lines; 0 for no end.
    pub count: u64,
    /// Bytes of a line without its newline, at least 11.
    pub length: u64,
    /// Turns of an empty loop between two lines.
    pub pause: u64,
    /// Fill the lines with bytes from 0x80 to 0xbf, which are no UTF-8.
    pub wide: bool,
    /// After the lines, give back what is typed, up to an EOT (Ctrl-D).
    pub echo: bool,
    /// An EOT that is typed ends the lines before their count, with [`Options::THE_END`].
    pub typed: bool,
    /// What to do at the end.
    pub finish: Finish,
}

/// The end of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// ACPI power off.
    PowerOff,
    /// Reset.
    Reset,
    /// Halt with the VM running.
    Halt,
}

impl Options {
    /// The last line of a guest that was told to come to its end.
    pub const THE_END: &str = "the end\n";
}

impl Default for Options {
    fn default() -> Options {
        Options {
            count: 0,
            length: 64,
            pause: 0,
            wide: false,
            echo: false,
            typed: false,
            finish: Finish::PowerOff,
        }
    }
}

/// Orders as the guest reads them: words that it does not know and numbers that are none are passed
/// over.
impl std::str::FromStr for Options {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Options, Self::Err> {
        let mut options = Options::default();
        for (name, value) in text.split_ascii_whitespace().filter_map(|word| word.split_once('=')) {
            let number = || value.parse().unwrap_or(0);
            match name {
                "count" => options.count = number(),
                "length" => options.length = number(),
                "pause" => options.pause = number(),
                "wide" => options.wide = number() != 0,
                "echo" => options.echo = number() != 0,
                "typed" => options.typed = number() != 0,
                "finish" => {
                    options.finish = match value {
                        "reset" => Finish::Reset,
                        "halt" => Finish::Halt,
                        _ => Finish::PowerOff,
                    }
                }
                _ => {}
            }
        }
        Ok(options)
    }
}

impl fmt::Display for Options {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let finish = match self.finish {
            Finish::PowerOff => "poweroff",
            Finish::Reset => "reset",
            Finish::Halt => "halt",
        };
        let Options { count, length, pause, .. } = self;
        let [wide, echo, typed] = [self.wide, self.echo, self.typed].map(u8::from);
        write!(
            formatter,
            "count={count} length={length} pause={pause} wide={wide} echo={echo} typed={typed} finish={finish}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_as_they_were_given() {
        let options =
            Options { count: 7, wide: true, typed: true, finish: Finish::Halt, ..Options::default() };
        assert_eq!(format!("console=ttyS0 {options}").parse(), Ok(options));
    }
}
