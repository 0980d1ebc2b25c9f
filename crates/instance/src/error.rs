//! Errors, each naming the thing, the reason and the way out.

/// What can go wrong with an instance.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither a name nor the beginning of an id.
    #[error("no instance is named {0:?} and no id begins with it; `hypeman ps -a` lists them")]
    NotFound(String),
    /// The beginning of several ids.
    #[error("{query:?} is the beginning of several ids ({ids}); give more of it")]
    Ambiguous {
        /// What the user gave.
        query: String,
        /// The ids that begin with it.
        ids: String,
    },
    /// Another instance has the name.
    #[error(
        "the name {name:?} is taken by instance {id}; choose another, or remove that one: `hypeman rm {name}`"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        id: String,
    },
    /// A value that cannot be used.
    #[error("{what} {value:?} cannot be used: {reason}")]
    Invalid {
        /// The option or field.
        what: &'static str,
        /// What was given.
        value: String,
        /// Why not, and what would do.
        reason: String,
    },
    /// The instance is in a state that forbids the request.
    #[error("instance {name} is {state}; {way_out}")]
    State {
        /// The instance's name.
        name: String,
        /// Its state, as shown to users.
        state: String,
        /// What to do.
        way_out: String,
    },
    /// A file or directory could not be used, or a record not be read.
    #[error(transparent)]
    Files(#[from] hypeman_files::Error),
    /// A record cannot be used.
    #[error(transparent)]
    Record(#[from] hypeman_record::format::Error),
    /// The instance could not be started; its logs say more.
    #[error("instance {name} could not be started: {reason}")]
    Start {
        /// The instance's name.
        name: String,
        /// The shim's words.
        reason: String,
    },
    /// The shim refused a request or went away.
    #[error("instance {name}: {reason}")]
    Shim {
        /// The instance's name.
        name: String,
        /// The shim's words.
        reason: String,
    },
    /// From the images and kernels.
    #[error(transparent)]
    Image(#[from] hypeman_image::Error),
    /// From the VMM drivers.
    #[error(transparent)]
    Vmm(#[from] hypeman_vmm::hypervisor::Error),
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
