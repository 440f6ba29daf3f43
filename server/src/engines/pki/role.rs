//! Roles: which certificates may be had, by whom, and for how long.

use std::time::Duration;

use ipnet::IpNet;
use prost::Message;

use super::{names::Names, template};
use crate::{
    crypto::KeyKind,
    engines::lifetime::Bounds,
    model::{Invalid, Path, Principal},
};

/// How long a certificate is good.
const LIFE: Bounds = Bounds {
    // Whoever has it asks for another one every day.
    ttl: 24 * 3600,
    max_ttl: 30 * 24 * 3600,
    // Shorter ones are over before clocks that differ agree.
    shortest: 60,
    // Browsers take no longer ones.
    longest: 398 * 24 * 3600,
};
/// Patterns of one kind: a record has room for them.
const PATTERNS: usize = 64;
const PATTERN_BYTES: usize = 512;

/// Names of the kinds of keys.
pub(super) const KEYS: [(&str, KeyKind); 4] = [
    ("ecdsa-p256", KeyKind::EcdsaP256),
    ("ecdsa-p384", KeyKind::EcdsaP384),
    ("ed25519", KeyKind::Ed25519),
    ("rsa", KeyKind::Rsa),
];

#[derive(Message, Clone)]
pub(super) struct Role {
    /// Empty: the default one.
    #[prost(string, tag = "1")]
    pub(super) issuer: String,
    #[prost(string, repeated, tag = "2")]
    pub(super) dns: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    pub(super) uris: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    pub(super) networks: Vec<String>,
    #[prost(bool, tag = "5")]
    pub(super) wildcards: bool,
    #[prost(string, repeated, tag = "6")]
    pub(super) keys: Vec<String>,
    #[prost(bool, tag = "7")]
    pub(super) server: bool,
    #[prost(bool, tag = "8")]
    pub(super) client: bool,
    #[prost(uint64, tag = "9")]
    pub(super) ttl: u64,
    #[prost(uint64, tag = "10")]
    pub(super) max_ttl: u64,
    #[prost(bool, tag = "11")]
    pub(super) lease: bool,
}

pub(super) fn key_kind(field: &str, name: &str) -> Result<KeyKind, Invalid> {
    let found = KEYS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
    let expected = KEYS.map(|(name, _)| name).join(", ");
    found.ok_or_else(|| Invalid::new(field, format!("is {name:?}; expected one of {expected}")))
}

pub(super) fn key_name(kind: KeyKind) -> &'static str {
    KEYS.iter().find(|(_, known)| *known == kind).map_or("", |(name, _)| name)
}

impl Role {
    /// With what is good where nothing is said.
    pub(super) fn parse(path: &str, role: Self) -> Result<Self, Invalid> {
        let (ttl, max_ttl) = LIFE.of_role(role.ttl, role.max_ttl)?;
        let keys = if role.keys.is_empty() { vec!["ecdsa-p256".to_owned()] } else { role.keys };
        let both = !role.server && !role.client;
        let (server, client) = (role.server || both, role.client || both);
        let role = Self { ttl, max_ttl, keys, server, client, ..role };
        for (field, patterns) in [("dns", &role.dns), ("uris", &role.uris), ("networks", &role.networks)] {
            if patterns.len() > PATTERNS || patterns.iter().any(|pattern| pattern.len() > PATTERN_BYTES) {
                let problem = format!("is too much; expected at most {PATTERNS} of {PATTERN_BYTES} bytes");
                return Err(Invalid::new(field, problem));
            }
        }
        role.dns.iter().try_for_each(|pattern| template::check("dns", pattern))?;
        role.uris.iter().try_for_each(|pattern| template::check("uris", pattern))?;
        role.keys.iter().try_for_each(|name| key_kind("keys", name).map(drop))?;
        role.networks()?;
        if !role.issuer.is_empty() {
            let issuer = Path::parse_field("issuer", &role.issuer)?;
            if Some(issuer.mount()) != path.split('/').next() {
                return Err(Invalid::new("issuer", format!("is {issuer}; expected one of the same mount")));
            }
        }
        Ok(role)
    }

    /// For the audit log.
    pub(super) fn told(&self) -> Vec<String> {
        let dns = self.dns.iter().map(|pattern| format!("dns {pattern}"));
        let uris = self.uris.iter().map(|pattern| format!("uri {pattern}"));
        let networks = self.networks.iter().map(|network| format!("network {network}"));
        dns.chain(uris).chain(networks).chain([format!("max ttl {} s", self.max_ttl)]).collect()
    }

    fn networks(&self) -> Result<Vec<IpNet>, Invalid> {
        let network = |text: &String| {
            let problem = || format!("has {text:?}; expected networks such as 10.0.0.0/8");
            text.parse().map_err(|_| Invalid::new("networks", problem()))
        };
        self.networks.iter().map(network).collect()
    }

    /// The kind of key that is made here.
    pub(super) fn makes(&self) -> Result<KeyKind, Invalid> {
        let kinds = self.keys.iter().map(|name| key_kind("keys", name));
        let made = kinds.filter_map(Result::ok).find(|kind| *kind != KeyKind::Rsa);
        made.ok_or_else(|| {
            Invalid::new("keys", "of the role are rsa only, which are not made here; send a request")
        })
    }

    pub(super) fn check_key(&self, kind: KeyKind) -> Result<(), Invalid> {
        match self.keys.iter().any(|name| name == key_name(kind)) {
            true => Ok(()),
            false => {
                let allowed = self.keys.join(", ");
                Err(Invalid::new(
                    "csr_pem",
                    format!("has a key of {}; the role allows {allowed}", key_name(kind)),
                ))
            }
        }
    }

    /// How long a certificate is good for somebody who asked for `asked` seconds.
    pub(super) fn ttl_of(&self, asked: u64) -> Result<Duration, Invalid> {
        let asked = Some(asked).filter(|asked| *asked > 0);
        LIFE.of_asked(asked, self.ttl, self.max_ttl).map(Duration::from_secs)
    }

    /// What `who` gets who asked for `names`: those, if each is allowed; without any, those that the role says outright.
    pub(super) fn names_of(&self, names: Names, who: &Principal) -> Result<Names, Invalid> {
        let names = if names.is_empty() { self.own_names(who)? } else { names };
        if names.is_empty() {
            return Err(Invalid::new("dns", "is missing, and the role says no names without a *"));
        }
        let refused = |field: &str, name: &str| {
            Err(Invalid::new(field, format!("has {name}, which the role does not allow {who}")))
        };
        for name in &names.dns {
            if !self.dns.iter().any(|pattern| self.allows_dns(pattern, name, who)) {
                return refused("dns", name);
            }
        }
        for uri in &names.uris {
            if !self.uris.iter().any(|pattern| template::allows(pattern, '/', uri, who)) {
                return refused("uris", uri);
            }
        }
        let networks = self.networks()?;
        for ip in &names.ips {
            if !networks.iter().any(|network| network.contains(ip)) {
                return refused("ips", &ip.to_string());
            }
        }
        Ok(names)
    }

    fn allows_dns(&self, pattern: &str, name: &str, who: &Principal) -> bool {
        (self.wildcards || !name.starts_with("*.")) && template::allows(pattern, '.', name, who)
    }

    fn own_names(&self, who: &Principal) -> Result<Names, Invalid> {
        let only = |patterns: &[String], separator| {
            patterns.iter().filter_map(|pattern| template::only(pattern, separator, who)).collect()
        };
        Names::parse(only(&self.dns, '.'), only(&self.uris, '/'), &[])
    }
}
