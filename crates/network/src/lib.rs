//! The networks of VMs: a bridge with a TAP for each VM and rules of our own, or passt, which needs
//! no privileges.
//!
//! Owns bridges, TAPs ([`attach()`], [`detach`]), nftables rules, addresses, published ports and
//! DNS servers. All of it can be made again from records ([`repair`], [`hypeman_record::network`]).
//!
//! Must not know: VMMs, images, the store of instances.

mod abilities;
mod attach;
mod attached;
mod batch;
pub mod dns;
mod error;
mod flows;
mod lease;
mod link;
mod netlink;
mod network;
mod nft;
mod owner;
mod passt;
mod publish;
mod relay;
mod resolver;
mod rules;
mod shape;
mod survey;
mod tap;

pub use abilities::{can_bridge, can_user};
pub use attach::{attach, detach, remove, remove_if_unused, repair};
pub use attached::{attached_in, attached_on, is_alive};
pub use error::{Error, Result};
pub use flows::forget_address;
pub use lease::lease;
pub use link::{Traffic, traffic};
pub use network::{Networks, Options};
pub use passt::{Passt, USER_NETWORK};
pub use publish::{exposed, parse};
pub use relay::{Listeners, Report, serve};
pub use resolver::{Resolver, answers_names, of_host};
pub use survey::{Finding, survey, survey_networks};
