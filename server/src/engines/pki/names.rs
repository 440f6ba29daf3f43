//! The names of certificates (RFC 5280, section 4.2.1.6): DNS names, URIs and IP addresses. Nothing is normalised: a name
//! is written as it has to be, or refused.

use std::net::IpAddr;

use x509_cert::{
    der::{Decode, Encode, asn1::Ia5String},
    ext::pkix::name::GeneralName,
};

use super::error::Error;
use crate::{crypto::CryptoError, model::Invalid};

/// Most names of one certificate: more make handshakes long.
pub(super) const MOST: usize = 100;
/// Longest DNS name (RFC 1035), label, and URI of ours.
const DNS_BYTES: usize = 253;
const LABEL_BYTES: usize = 63;
const URI_BYTES: usize = 2048;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) dns: Vec<String>,
    pub(super) uris: Vec<String>,
    pub(super) ips: Vec<IpAddr>,
}

impl Names {
    /// From what a message says.
    pub(super) fn parse(dns: Vec<String>, uris: Vec<String>, ips: &[String]) -> Result<Self, Invalid> {
        let address = |text: &String| {
            text.parse().map_err(|_| Invalid::new("ips", format!("has {text:?}, which is no IP address")))
        };
        let ips = ips.iter().map(address).collect::<Result<_, _>>()?;
        Self { dns, uris, ips }.checked()
    }

    /// From a SubjectAltName in DER.
    pub(super) fn read(der: &[u8]) -> Result<Self, Invalid> {
        let unknown = |what: &str| Invalid::new("csr_pem", format!("asks for {what}"));
        let names = Vec::<GeneralName>::from_der(der).map_err(|_| unknown("names that cannot be read"))?;
        let mut read = Self::default();
        for name in names {
            match name {
                GeneralName::DnsName(dns) => read.dns.push(dns.to_string()),
                GeneralName::UniformResourceIdentifier(uri) => read.uris.push(uri.to_string()),
                GeneralName::IpAddress(octets) => {
                    let octets = octets.as_bytes();
                    let four = <[u8; 4]>::try_from(octets).map(IpAddr::from);
                    let ip = four.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from));
                    read.ips.push(ip.map_err(|_| unknown("an address of another length than 4 or 16"))?);
                }
                _ => return Err(unknown("a name that is neither DNS name nor URI nor IP address")),
            }
        }
        read.checked()
    }

    fn checked(self) -> Result<Self, Invalid> {
        let count = self.dns.len() + self.uris.len() + self.ips.len();
        if count > MOST {
            return Err(Invalid::new(
                "dns",
                format!("has {count} names with uris and ips; expected at most {MOST}"),
            ));
        }
        self.dns.iter().try_for_each(|name| check_dns(name))?;
        self.uris.iter().try_for_each(|uri| check_uri(uri))?;
        Ok(self)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.dns.is_empty() && self.uris.is_empty() && self.ips.is_empty()
    }

    /// As the value of a SubjectAltName.
    pub(super) fn to_der(&self) -> Result<Vec<u8>, Error> {
        let text = |text: &String| Ia5String::new(text.as_str()).map_err(|_| CryptoError);
        let mut names = Vec::new();
        for name in &self.dns {
            names.push(GeneralName::DnsName(text(name)?));
        }
        for uri in &self.uris {
            names.push(GeneralName::UniformResourceIdentifier(text(uri)?));
        }
        names.extend(self.ips.iter().map(|ip| GeneralName::from(*ip)));
        Ok(names.to_der().map_err(|_| CryptoError)?)
    }

    /// For people and the audit log.
    pub(super) fn told(&self) -> Vec<String> {
        let dns = self.dns.iter().map(|name| format!("dns {name}"));
        let uris = self.uris.iter().map(|uri| format!("uri {uri}"));
        dns.chain(uris).chain(self.ips.iter().map(|ip| format!("ip {ip}"))).collect()
    }
}

/// Labels of small letters, digits and hyphens; the first may be `*`.
fn check_dns(name: &str) -> Result<(), Invalid> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_label = |label: &str| {
        (1..=LABEL_BYTES).contains(&label.len())
            && label.chars().all(is_plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let rest = name.strip_prefix("*.").unwrap_or(name);
    // What looks like an address is none: others could take it for one.
    let is_address = rest.parse::<IpAddr>().is_ok();
    match name.len() <= DNS_BYTES && rest.split('.').all(is_label) && !is_address {
        true => Ok(()),
        false => {
            let shape = "expected labels of small letters, digits and hyphens";
            Err(Invalid::new("dns", format!("has {name:?}; {shape}")))
        }
    }
}

/// `scheme://host/...` of visible characters (RFC 5280 asks for a scheme and a host), without what leads elsewhere.
fn check_uri(uri: &str) -> Result<(), Invalid> {
    let parts = uri.split_once("://");
    let good = parts.is_some_and(|(scheme, rest)| {
        !scheme.is_empty()
            && scheme.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
            && rest.split('/').all(|segment| !segment.is_empty() && segment != "." && segment != "..")
            && rest.chars().all(|c| c.is_ascii_graphic() && !"*%?#@\\\"<>".contains(c))
    });
    match good && uri.len() <= URI_BYTES {
        true => Ok(()),
        false => {
            Err(Invalid::new("uris", format!("has {uri:?}; expected scheme://host/path, without escapes")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_be_read_in_two_ways_is_none() {
        let dns = |name: &str| Names::parse(vec![name.to_owned()], vec![], &[]).is_ok();
        for good in ["a", "a.b", "*.a.b", "xn--bcher-kva.example", "1.example"] {
            assert!(dns(good), "{good}");
        }
        let long = [&"a".repeat(63)[..]; 4].join(".") + ".a";
        for bad in [
            "", ".", "a.", "A.b", "a..b", "a.*", "*", "a*.b", "-a.b", "a_b", "a b", "10.0.0.1", "ä.b",
            "a\0.b", &long,
        ] {
            assert!(!dns(bad), "{bad}");
        }
        let uri = |uri: &str| Names::parse(vec![], vec![uri.to_owned()], &[]).is_ok();
        assert!(uri("spiffe://example.org/ns/a/sa/b"));
        for bad in [
            "",
            "a",
            "://a",
            "spiffe://",
            "spiffe://a//b",
            "spiffe://a/../b",
            "spiffe://a/%2e",
            "spiffe://u@a",
            "s://a/ b",
        ] {
            assert!(!uri(bad), "{bad}");
        }
        assert!(Names::parse(vec![], vec![], &["10.0.0.256".to_owned()]).is_err());
        assert!(Names::parse(vec!["a.b".to_owned(); MOST + 1], vec![], &[]).is_err());
    }

    #[test]
    fn names_are_read_as_they_were_written() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let ips = texts(&["10.0.0.1", "fd00::1"]);
        let names = Names::parse(texts(&["a.b", "*.c"]), texts(&["spiffe://d/e"]), &ips).unwrap();
        assert_eq!(Names::read(&names.to_der().unwrap()).unwrap(), names);
        assert_eq!(names.told(), ["dns a.b", "dns *.c", "uri spiffe://d/e", "ip 10.0.0.1", "ip fd00::1"]);
    }
}
