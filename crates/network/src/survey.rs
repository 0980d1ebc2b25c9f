//! Network abilities of this host, for choosing a network, and for people.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::abilities::{can_bridge, can_user};
use crate::attached::attached_in;
use crate::network::{BRIDGE, Networks};
use crate::passt::PROGRAM;
use crate::{link, nft};

/// Something that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The ability.
    pub what: &'static str,
    /// The finding, or the obstacle.
    pub found: Result<String, String>,
    /// Advice.
    pub advice: Option<String>,
}

/// Looks at all of it.
#[must_use]
pub fn survey() -> Vec<Finding> {
    let install = |package: &str| Some(format!("apt-get install {package}"));
    let bridge = can_bridge().and_then(|()| {
        nft::list(&["tables"]).map(drop).map_err(|error| error.to_string())?;
        Ok("VMs get a bridge, addresses and rules".to_owned())
    });
    let advice = match &bridge {
        Err(why) if why.starts_with("nft is not") => install("nftables"),
        Err(why) if why.contains("root") => Some("run as root, or use --network user".to_owned()),
        Err(why) if why.contains("tun") => Some("modprobe tun".to_owned()),
        _ => None,
    };
    let can_bridge = bridge.is_ok();
    let mut findings = vec![
        Finding { what: "network bridge", found: bridge, advice },
        Finding {
            what: "network user",
            found: can_user().map(|()| {
                let silent = if speaks_second() { SPEAKS_SECOND } else { "" };
                format!("VMs can be connected without privileges, by passt{silent}")
            }),
            advice: can_user().err().and_then(|_| install(PROGRAM)),
        },
    ];
    if can_bridge {
        let ruleset = nft::list(&["chains"]).unwrap_or_default();
        findings.push(forwarding(&ruleset));
        findings.extend(asking(&ruleset));
    }
    findings
}

/// Timeout for a program that tells its version.
const ANSWER: Duration = Duration::from_secs(10);

/// The trouble with Debian 12's passt: it leaves a guest's connection half open until the client
/// has sent something (tried).
const SPEAKS_SECOND: &str = "; with this passt, of 2023 or before, a published server that speaks first (MySQL, SMTP, FTP, VNC) is \
                             silent until its client does: use a bridge, or a newer passt";

/// Whether passt is so old. Debian 12's says that its version is unknown; newer ones have a date in
/// it.
fn speaks_second() -> bool {
    let told =
        hypeman_process::run(hypeman_process::program(Path::new(PROGRAM)).arg("--version"), b"", ANSWER);
    let Ok(told) = told else { return false };
    let version = String::from_utf8_lossy(&told.stdout).lines().next().unwrap_or_default().to_owned();
    ["unknown", "git2021", "git2022", "git2023"].iter().any(|old| version.contains(old))
}

/// Looks at the networks whose VMs run: what of them is not there any more, and would be put back.
#[must_use]
pub fn survey_networks(networks: &Networks, instances: &Path) -> Vec<Finding> {
    let (attached, _) = attached_in(instances);
    let used: BTreeSet<String> = attached.into_iter().map(|attached| attached.port.network).collect();
    if used.is_empty() {
        return Vec::new();
    }
    let interfaces = link::names().unwrap_or_default();
    let mut findings = Vec::new();
    for network in used.iter().filter_map(|name| networks.get(name).ok()) {
        let found = match interfaces.contains(&network.bridge) {
            true => Ok(format!("{} is there", network.bridge)),
            false => Err(format!("the bridge {} of network {} is gone", network.bridge, network.name)),
        };
        let advice = found.is_err().then(|| format!("hypeman network repair {}", network.name));
        findings.push(Finding { what: "network bridges", found, advice });
    }
    let forwards = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap_or_default();
    if forwards.trim() == "0" {
        let found = Err("net.ipv4.ip_forward is 0: packets of VMs end at the host".to_owned());
        findings.push(Finding {
            what: "network routing",
            found,
            advice: Some("hypeman network repair".to_owned()),
        });
    }
    findings
}

/// Whether somebody else's rules drop what VMs ask the host: names, where it answers them.
fn asking(ruleset: &Value) -> Option<Finding> {
    let is_dropping = |chain: &&Value| {
        chain["hook"] == "input" && chain["policy"] == "drop" && !chain["table"].as_str().is_some_and(is_ours)
    };
    let found = chains(ruleset).find(is_dropping)?;
    let table = format!("{} {}", found["family"].as_str()?, found["table"].as_str()?);
    Some(Finding {
        what: "network names",
        found: Err(format!(
            "a chain of the table {table} drops unknown packets to this host, and so the VMs' DNS queries"
        )),
        advice: Some(
            "iptables -I INPUT -i hypeman+ -p udp --dport 53 -j ACCEPT && iptables -I INPUT -i hypeman+ -p tcp --dport 53 -j \
             ACCEPT"
                .to_owned(),
        ),
    })
}

/// Whether a table is of a network of ours.
fn is_ours(table: &str) -> bool {
    table.starts_with(BRIDGE)
}

/// Whether somebody else's rules drop what goes to VMs and from them, as docker's do.
fn forwarding(ruleset: &Value) -> Finding {
    match dropping_table(ruleset) {
        None => {
            Finding { what: "network forwarding", found: Ok("no rule drops it".to_owned()), advice: None }
        }
        Some(table) => {
            let allow =
                |chain: &str, direction: &str| format!("iptables -I {chain} -{direction} hypeman+ -j ACCEPT");
            let chain = if has_docker(ruleset) { "DOCKER-USER" } else { "FORWARD" };
            Finding {
                what: "network forwarding",
                found: Err(format!(
                    "the chain FORWARD of the table {table} drops unknown packets, and so those of VMs on bridges"
                )),
                advice: Some(format!("{} && {}", allow(chain, "i"), allow(chain, "o"))),
            }
        }
    }
}

/// The table that has a chain which drops what is forwarded, if there is one (libnftables-json(5)).
fn dropping_table(ruleset: &Value) -> Option<String> {
    let is_dropping = |chain: &&Value| {
        chain["hook"] == "forward"
            && chain["policy"] == "drop"
            && !chain["table"].as_str().is_some_and(is_ours)
    };
    let found = chains(ruleset).find(is_dropping)?;
    Some(format!("{} {}", found["family"].as_str()?, found["table"].as_str()?))
}

fn has_docker(ruleset: &Value) -> bool {
    chains(ruleset).any(|chain| chain["name"] == "DOCKER-USER")
}

fn chains(ruleset: &Value) -> impl Iterator<Item = &Value> {
    ruleset["nftables"].as_array().into_iter().flatten().filter_map(|object| object.get("chain"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn docker_s_policy_is_recognised() {
        let chain = |name: &str, policy: &str| json!({"chain": {"family": "ip", "table": "filter", "name": name, "hook": "forward", "policy": policy}});
        let docker = json!({"nftables": [{"metainfo": {}}, chain("FORWARD", "drop"), {"chain": {"name": "DOCKER-USER"}}]});
        assert_eq!(dropping_table(&docker).as_deref(), Some("ip filter"));
        assert!(has_docker(&docker));
        assert_eq!(dropping_table(&json!({"nftables": [chain("FORWARD", "accept")]})), None);
        let input = json!({"nftables": [{"chain": {"family": "ip", "table": "filter", "hook": "input", "policy": "drop"}}]});
        assert!(asking(&input).is_some_and(|finding| finding.found.unwrap_err().contains("ip filter")));
        assert!(asking(&docker).is_none());
    }
}
