//! The grammar of published ports, as docker has it (docker-run(1), `--publish`).

use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;

use hypeman_record::network::{Protocol, Published};

/// Reads `[[IP:]HOST:]GUEST[/tcp|udp]`. Both ports may be ranges of the same length; of a range of
/// the host's for one port of the guest's the first that is free is taken. The host's may be empty,
/// 0 or missing, and an address of IPv6 stands in brackets.
///
/// # Errors
/// Says what is wrong with it.
pub fn parse(text: &str) -> Result<Vec<Published>, String> {
    let (rest, protocol) = split_protocol(text)?;
    let (rest, guest) = rest.rsplit_once(':').map_or((None, rest), |(rest, guest)| (Some(rest), guest));
    let guest = range(guest)?;
    let (address, host) = match rest {
        None => (None, ""),
        Some(rest) => split_address(rest)?,
    };
    let hosts: Vec<Option<u16>> = match host {
        "" | "0" => guest.clone().map(|_| None).collect(),
        host => range(host)?.map(Some).collect(),
    };
    if let ([Some(first), .., Some(last)], 1) = (&hosts[..], guest.len()) {
        let guest = *guest.start();
        return Ok(vec![Published { address, host: Some(*first), host_to: Some(*last), guest, protocol }]);
    }
    if hosts.len() != guest.len() {
        return Err(
            "there have to be as many ports of the host as of the guest, or one of the guest".to_owned()
        );
    }
    let published = |(host, guest)| Published { address, host, host_to: None, guest, protocol };
    Ok(hosts.into_iter().zip(guest).map(published).collect())
}

/// Reads `PORT[-PORT][/tcp|udp]`, as an image exposes it; each is published on a port that is free.
///
/// # Errors
/// Says what is wrong with it.
pub fn exposed(text: &str) -> Result<Vec<Published>, String> {
    let (ports, protocol) = split_protocol(text)?;
    let published = |guest| Published { address: None, host: None, host_to: None, guest, protocol };
    Ok(range(ports)?.map(published).collect())
}

fn split_protocol(text: &str) -> Result<(&str, Protocol), String> {
    match text.split_once('/') {
        None => Ok((text, Protocol::Tcp)),
        Some((rest, protocol)) => Ok((rest, protocol.to_ascii_lowercase().parse()?)),
    }
}

/// An address, if there is one, and the host's port, which may be empty.
fn split_address(text: &str) -> Result<(Option<IpAddr>, &str), String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or("the bracket of the address is not closed")?;
        let address: Ipv6Addr = address
            .parse()
            .map_err(|_| format!("{address:?} is no address of IPv6, and stands in brackets"))?;
        let port = rest.strip_prefix(':').ok_or("after the address comes `:` and the host's port")?;
        return Ok((Some(address.into()), port));
    }
    let Some((address, port)) = text.rsplit_once(':') else { return Ok((None, text)) };
    if address.contains(':') {
        return Err(format!("an address of IPv6 stands in brackets: [{address}]"));
    }
    let address = address.parse().map_err(|_| format!("{address:?} is no address"))?;
    Ok((Some(address), port))
}

fn range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err(format!("the range {text} ends before it begins"));
    }
    Ok(first..=last)
}

fn port(text: &str) -> Result<u16, String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if is_number && port > 0 => Ok(port),
        _ => Err(format!("{text:?} is no port; there are 1 to 65535")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<Vec<String>, String> {
        parse(text).map(|published| published.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_docker_takes_is_taken() {
        for (text, published) in [
            ("80", "0.0.0.0:?->80/tcp"),
            ("8080:80", "0.0.0.0:8080->80/tcp"),
            ("8080:80/tcp", "0.0.0.0:8080->80/tcp"),
            ("53:53/UDP", "0.0.0.0:53->53/udp"),
            ("127.0.0.1:8080:80", "127.0.0.1:8080->80/tcp"),
            ("127.0.0.1::80", "127.0.0.1:?->80/tcp"),
            ("[::1]:8080:80", "[::1]:8080->80/tcp"),
            ("[fd00::2]::53/udp", "[fd00::2]:?->53/udp"),
            (":80", "0.0.0.0:?->80/tcp"),
            ("0:80", "0.0.0.0:?->80/tcp"),
            ("8000-8005:80", "0.0.0.0:8000-8005->80/tcp"),
            ("127.0.0.1:8000-8005:80/udp", "127.0.0.1:8000-8005->80/udp"),
        ] {
            assert_eq!(shown(text), Ok(vec![published.to_owned()]), "{text}");
        }
        assert_eq!(shown("8000-8001:80-81").unwrap(), ["0.0.0.0:8000->80/tcp", "0.0.0.0:8001->81/tcp"]);
        assert_eq!(shown("80-81").unwrap().len(), 2);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "is no port"),
            ("80:0", "is no port"),
            ("65536:80", "is no port"),
            ("+80:80", "is no port"),
            ("a:80", "is no port"),
            ("8080:80/sctp", "no protocol"),
            ("::1:8080:80", "in brackets"),
            ("[::1:8080:80", "not closed"),
            ("[127.0.0.1]:1:1", "no address of IPv6"),
            ("[::1]8080:80", "after the address"),
            ("localhost:8080:80", "is no address"),
            ("8001-8000:80-81", "ends before"),
            ("8000-8002:80-81", "as many"),
        ] {
            let error = shown(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        assert_eq!(exposed("8080").unwrap()[0].guest, 8080);
        assert!(exposed("http").is_err());
    }
}
