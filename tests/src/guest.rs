//! The usual VM of a test: the test guest, which prints numbered lines and does as it is told.

use testguest::{Finish, Options};

use crate::bed::Bed;
use crate::fixtures::testguest;
use crate::vm::Instance;

/// A VM with the test guest that is not made yet.
#[derive(Debug, Clone)]
pub struct Guest<'a> {
    bed: &'a Bed,
    name: String,
    options: Options,
    arguments: Vec<String>,
}

impl<'a> Guest<'a> {
    /// One that prints lines without end.
    #[must_use]
    pub fn new(bed: &'a Bed, name: &str) -> Guest<'a> {
        let options = Options { count: 0, ..Options::default() };
        Guest { bed, name: name.to_owned(), options, arguments: Vec::new() }
    }

    /// It prints so many lines, and powers off.
    #[must_use]
    pub fn lines(mut self, count: u64) -> Guest<'a> {
        self.options.count = count;
        self
    }

    /// It prints a line, and says nothing more than what is typed.
    #[must_use]
    pub fn quiet(mut self) -> Guest<'a> {
        self.options = Options { count: 1, echo: true, ..self.options };
        self
    }

    /// It prints some tens of lines a second on TCG.
    #[must_use]
    pub fn slow(mut self) -> Guest<'a> {
        self.options.pause = 200_000;
        self
    }

    /// It prints lines until it is told to come to its end ([`Instance::tell_to_end`]).
    #[must_use]
    pub fn until_told(mut self) -> Guest<'a> {
        self.options.typed = true;
        self
    }

    /// Its end after it has printed its lines.
    #[must_use]
    pub fn finish(mut self, finish: Finish) -> Guest<'a> {
        self.options.finish = finish;
        self
    }

    /// Arguments of `hypeman create` besides.
    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Guest<'a> {
        self.arguments.extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// Its parameters.
    #[must_use]
    pub fn options(&self) -> Options {
        self.options
    }

    /// The arguments of `hypeman create` or `run` that make it, its name among them.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let cmdline = self.options.to_string();
        let usual = ["--name", &self.name, "--kernel", testguest(), "--memory", "32m", "--cmdline", &cmdline];
        usual.iter().map(ToString::to_string).chain(self.arguments.iter().cloned()).collect()
    }

    /// `hypeman run -d`.
    #[must_use]
    pub fn run(self) -> Instance<'a> {
        self.make(&["run", "-d"])
    }

    /// `hypeman create`.
    #[must_use]
    pub fn create(self) -> Instance<'a> {
        self.make(&["create"])
    }

    fn make(self, verb: &[&str]) -> Instance<'a> {
        let arguments = self.arguments();
        let arguments: Vec<&str> = verb.iter().copied().chain(arguments.iter().map(String::as_str)).collect();
        let instance = Instance { bed: self.bed, name: self.name };
        self.bed.ok(&arguments);
        instance
    }
}
