//! Who is behind a proxy. `Forwarded` (RFC 7239), `X-Forwarded-For` and `X-Forwarded-Proto` come from anybody: they are
//! believed as far as proxies that the operator trusts have written them, from the right to the first foreign hop.
//!
//! `X-Forwarded-Host` is never looked at: what replies name as this node is `public_url`, or Host where it is listed.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;

const FORWARDED: &str = "forwarded";
const X_FORWARDED_FOR: &str = "x-forwarded-for";
const X_FORWARDED_PROTO: &str = "x-forwarded-proto";

/// Who sent a request, as far as it can be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sender {
    pub(super) client: IpAddr,
    /// Whether the proxy before us was reached by TLS; `None` when there is no proxy, or none that says so.
    pub(super) tls: Option<bool>,
}

/// `peer` is the other end of the connection, in its canonical form.
pub(super) fn sender(headers: &HeaderMap, peer: IpAddr, trusts: impl Fn(IpAddr) -> bool) -> Sender {
    if !trusts(peer) {
        return Sender { client: peer, tls: None };
    }
    let elements: Vec<&str> = lines(headers, FORWARDED).flat_map(elements).collect();
    let named = |name| move |element: &&str| parameter(element, name);
    let standard = (!elements.is_empty()).then(|| walk(elements.iter().map(named("for")), peer, &trusts));
    let hops: Vec<&str> = lines(headers, X_FORWARDED_FOR).flat_map(|line| line.split(',').map(str::trim)).collect();
    let usual = (!hops.is_empty()).then(|| walk(hops.iter().map(|hop| Some((*hop).to_owned())), peer, &trusts));
    let client = match (standard, usual) {
        // A proxy writes one of the two and passes the other on as its client sent it: neither can be believed.
        (Some(standard), Some(usual)) if standard != usual => return Sender { client: peer, tls: None },
        (Some(client), _) | (None, Some(client)) => client,
        (None, None) => peer,
    };
    let mut said = elements.last().and_then(named("proto")).into_iter().collect::<Vec<_>>();
    let protocols = lines(headers, X_FORWARDED_PROTO).flat_map(|line| line.split(','));
    said.extend(protocols.last().map(|proto| proto.trim().to_owned()));
    let tls = (!said.is_empty()).then(|| said.iter().all(|proto| proto.eq_ignore_ascii_case("https")));
    Sender { client, tls }
}

/// From the hop that our peer saw to the first that nobody we trust vouches for.
fn walk(
    hops: impl DoubleEndedIterator<Item = Option<String>>,
    peer: IpAddr,
    trusts: &impl Fn(IpAddr) -> bool,
) -> IpAddr {
    let mut client = peer;
    for hop in hops.rev() {
        let Some(address) = hop.as_deref().and_then(address) else { break };
        client = address;
        if !trusts(client) {
            break;
        }
    }
    client
}

fn lines<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = &'a str> {
    // A line that is no text says nothing, and ends the walk.
    headers.get_all(name).iter().map(|line| line.to_str().unwrap_or_default())
}

/// Of one line. A quote that a client left open would swallow what a proxy appended: such a line is one empty element.
fn elements(line: &str) -> Vec<&str> {
    if line.matches('"').count() % 2 == 1 {
        return vec![""];
    }
    outside_quotes(line, ',').map(str::trim).collect()
}

fn parameter(element: &str, name: &str) -> Option<String> {
    outside_quotes(element, ';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"').to_owned())
    })
}

fn outside_quotes(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c| {
        quoted ^= c == '"';
        c == separator && !quoted
    })
}

/// An address, with a port or without, IPv6 in brackets or without. `unknown` and invented names are none.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let parsed = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|with_port| with_port.ip()));
    parsed.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;
    use proptest::prelude::*;

    use super::*;

    const PROXY: &str = "10.0.0.9";

    fn found(peer: &str, lines: &[(&'static str, &str)]) -> (String, Option<bool>) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        let trusted: IpNet = "10.0.0.0/8".parse().unwrap();
        let Sender { client, tls } = sender(&headers, peer.parse().unwrap(), |address| trusted.contains(&address));
        (client.to_string(), tls)
    }

    #[test]
    fn the_client_is_the_last_hop_that_no_trusted_proxy_is() {
        for (lines, client, tls) in [
            (&[][..], PROXY, None),
            (&[("x-forwarded-for", "192.0.2.1")], "192.0.2.1", None),
            (&[("x-forwarded-for", "1.1.1.1, 192.0.2.1, 10.3.3.3")], "192.0.2.1", None),
            (&[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "192.0.2.1:99")], "192.0.2.1", None),
            (&[("x-forwarded-for", "10.1.1.1, 10.2.2.2")], "10.1.1.1", None),
            (&[("x-forwarded-for", "192.0.2.1, nonsense, 10.2.2.2")], "10.2.2.2", None),
            (&[("x-forwarded-for", "::ffff:192.0.2.1")], "192.0.2.1", None),
            (&[("forwarded", "for=1.1.1.1, for=192.0.2.1;proto=https;by=10.0.0.9")], "192.0.2.1", Some(true)),
            (&[("forwarded", "For=\"[2001:db8::1]:4711\";proto=http")], "2001:db8::1", Some(false)),
            (&[("forwarded", "for=unknown")], PROXY, None),
            (&[("forwarded", "for=\"a,b\", for=192.0.2.1")], "192.0.2.1", None),
            (&[("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "https")], "192.0.2.1", Some(true)),
            (&[("x-forwarded-proto", "https, http")], PROXY, Some(false)),
            (&[("forwarded", "for=1.1.1.1;by=\", for=192.0.2.1")], PROXY, None),
            // Which of the two the proxy has written cannot be known.
            (&[("forwarded", "for=1.1.1.1;proto=https"), ("x-forwarded-for", "192.0.2.1")], PROXY, None),
        ] {
            assert_eq!(found(PROXY, lines), (client.to_owned(), tls), "{lines:?}");
        }
    }

    proptest! {
        #[test]
        fn strangers_and_what_they_sent_through_a_proxy_change_nothing(text in "[ -~]{0,60}") {
            let spoofed = [("x-forwarded-for", text.as_str()), ("forwarded", &text), ("x-forwarded-proto", "https")];
            prop_assert_eq!(found("192.0.2.7", &spoofed), ("192.0.2.7".to_owned(), None));
            let appended = format!("{text}, 192.0.2.1");
            prop_assert_eq!(found(PROXY, &[("x-forwarded-for", &appended)]).0, "192.0.2.1");
        }
    }
}
