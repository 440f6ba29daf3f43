//! Tokens that local mode has to refuse.

use std::io;

use data_encoding::{BASE64, BASE64URL_NOPAD};
use ring::hmac;
use serde_json::{Value, json};

use super::{AUDIENCE, Cast, Forgery, HOUR};
use crate::{
    fake_kubernetes::{Algorithm, FakeKubernetes, ISSUER, Pod, SigningKey, TokenText},
    faults::dice::Dice,
};

/// Flipped bits of each part of a token.
const FLIPS: usize = 20;

/// All of them, but for those that only one kind of key can have.
pub(super) fn all(kubernetes: &FakeKubernetes, cast: &Cast, dice: &mut Dice) -> io::Result<Vec<Forgery>> {
    let mut forge = Forge { kubernetes, key: &kubernetes.signing_key(), pod: &cast.pod, rows: Vec::new() };
    audiences(&mut forge);
    issuers(&mut forge);
    algorithms(&mut forge);
    keys(&mut forge)?;
    times(&mut forge);
    identities(&mut forge, cast);
    texts(&mut forge);
    flips(&mut forge, dice);
    Ok(forge.rows)
}

struct Forge<'a> {
    kubernetes: &'a FakeKubernetes,
    key: &'a SigningKey,
    pod: &'a Pod,
    rows: Vec<Forgery>,
}

impl Forge<'_> {
    fn good(&self) -> TokenText {
        self.kubernetes.token_text(self.pod, AUDIENCE, HOUR)
    }

    fn row(&mut self, what: impl Into<String>, token: impl Into<String>) {
        self.rows.push(Forgery { what: what.into(), token: token.into(), lie: None });
    }

    /// Properly signed, with these claims wrong.
    fn claim(&mut self, path: &[&str], value: Value) {
        let what = format!("{} is {value}", path.join("/"));
        let token = self.good().with(path, value).sign(self.key);
        self.row(what, token);
    }

    fn claims(&mut self, path: &[&str], values: impl IntoIterator<Item = Value>) {
        values.into_iter().for_each(|value| self.claim(path, value));
        let token = self.good().without(path).sign(self.key);
        self.row(format!("{} is missing", path.join("/")), token);
    }

    /// Properly signed, with this in the header.
    fn header(&mut self, name: &str, value: Value) {
        let what = format!("header {name} is {value}");
        let token = self.good().with_header(name, value).sign(self.key);
        self.row(what, token);
    }
}

/// CVE-2024-5798, vault-plugin-auth-kubernetes#175.
fn audiences(forge: &mut Forge<'_>) {
    let many: Vec<String> = (0..40).map(|n| format!("a{n}")).chain([AUDIENCE.to_owned()]).collect();
    forge.claims(
        &["aud"],
        [
            json!("vault"),
            json!(["vault"]),
            json!([]),
            json!(""),
            json!([""]),
            json!("Strongroom"),
            json!(["STRONGROOM"]),
            json!("strongroom "),
            json!([" strongroom"]),
            json!("strongroom\u{0}"),
            json!("strongroom/"),
            json!("https://strongroom"),
            json!("strongroo"),
            json!("strongrooms"),
            json!("strongroom,vault"),
            json!(["strong", "room"]),
            json!(["vault", "Strongroom"]),
            json!(null),
            json!(5),
            json!(true),
            json!({ "strongroom": true }),
            json!([["strongroom"]]),
            json!([5, "strongroom"]),
            json!([null, "strongroom"]),
            json!("ѕtrongroom"),
            json!("strongroom\n"),
            json!(many),
            json!(ISSUER),
        ],
    );
}

fn issuers(forge: &mut Forge<'_>) {
    let upper = ISSUER.to_uppercase();
    forge.claims(
        &["iss"],
        [
            json!("https://elsewhere.example"),
            json!(""),
            json!(null),
            json!([ISSUER]),
            json!(format!("{ISSUER}/")),
            json!(upper),
            json!(ISSUER.replace("https", "http")),
            json!(format!(" {ISSUER}")),
            json!(format!("{ISSUER}.evil.example")),
            json!("kubernetes/serviceaccount"),
            json!({ "iss": ISSUER }),
        ],
    );
}

/// CVE-2015-9235 and its heirs: the token does not choose how it is judged.
fn algorithms(forge: &mut Forge<'_>) {
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let message = forge.good().with_header("alg", alg.into()).message(forge.key);
        forge.row(format!("alg {alg:?} without a signature"), format!("{message}."));
        let signed = forge.good().with_header("alg", alg.into()).sign(forge.key);
        forge.row(format!("alg {alg:?} with a good signature"), signed);
    }
    let public = forge.key.public_bytes();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", BASE64.encode(&public));
    let secrets =
        [public, pem.into_bytes(), forge.key.jwk().to_string().into_bytes(), Vec::new(), b"rsa-1".to_vec()];
    let macs = [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)];
    for (alg, mac) in macs {
        for (n, secret) in secrets.iter().enumerate() {
            let message = forge.good().with_header("alg", alg.into()).message(forge.key);
            let tag = hmac::sign(&hmac::Key::new(mac, secret), message.as_bytes());
            let token = format!("{message}.{}", BASE64URL_NOPAD.encode(tag.as_ref()));
            forge.row(format!("alg {alg} with public secret {n}"), token);
        }
    }
    for (alg, algorithm) in [("RS384", Algorithm::Rs384), ("RS512", Algorithm::Rs512)] {
        let text = forge.good().with_header("alg", alg.into());
        forge.row(format!("alg {alg}, signed so"), text.sign_with(forge.key, algorithm));
        let other = if forge.key.alg() == "RS256" { algorithm } else { Algorithm::Fitting };
        let text = forge.good().with_header("alg", "RS256".into());
        if other != Algorithm::Fitting {
            forge.row(format!("alg RS256, signed as {alg}"), text.sign_with(forge.key, other));
        }
    }
    let fitting = forge.key.alg();
    for alg in [
        "RS256", "RS384", "PS256", "PS512", "ES256", "ES256K", "ES384", "EdDSA", "rs256", "es256", "RS256 ",
        "HS256", "A128KW",
    ] {
        if alg != fitting {
            forge.header("alg", alg.into());
        }
    }
    for alg in [json!(null), json!(5), json!(["RS256"]), json!({ "RS256": true })] {
        forge.header("alg", alg);
    }
}

/// Other keys, and ways of bringing one along.
fn keys(forge: &mut Forge<'_>) -> io::Result<()> {
    for kid in [
        json!(""),
        json!("unknown"),
        json!(null),
        json!(7),
        json!(["rsa-1"]),
        json!("../rsa-1"),
        json!("RSA-1"),
        json!("rsa-1 "),
        json!("k".repeat(3000)),
        json!("rsa-1\u{0}"),
        json!("' OR 1=1 --"),
    ] {
        forge.header("kid", kid);
    }
    let mut text = forge.good();
    if let Some(header) = text.header.as_object_mut() {
        header.remove("kid");
    }
    forge.row("header kid is missing", text.sign(forge.key));
    let kid = forge.key.kid().to_owned();
    for theirs in [SigningKey::another_rs256()?.called(&kid), SigningKey::es256(&kid)?] {
        let alg = theirs.alg();
        let bare = forge.good();
        forge.row(format!("signed by a foreign {alg} key of the same id"), bare.sign(&theirs));
        for (name, value) in [
            ("jwk", theirs.jwk()),
            ("jku", json!("https://evil.example/jwks")),
            ("x5u", json!("https://evil.example/x5u")),
            ("x5c", json!([BASE64.encode(&theirs.public_bytes())])),
        ] {
            let text = forge.good().with_header(name, value);
            forge.row(format!("signed by a foreign {alg} key, brought along as {name}"), text.sign(&theirs));
        }
        let unknown = forge.good().with_header("kid", "theirs".into()).with_header("jwk", theirs.jwk());
        forge.row(format!("signed by a foreign {alg} key of its own id"), unknown.sign(&theirs));
    }
    for (name, value) in
        [("crit", json!(["exp"])), ("crit", json!([])), ("crit", json!(["b64"])), ("crit", json!("x"))]
    {
        forge.header(name, value);
    }
    Ok(())
}

fn times(forge: &mut Forge<'_>) {
    let claim = |name: &str| forge.good().claims.get(name).and_then(Value::as_i64).unwrap_or_default();
    let now = claim("iat");
    for (name, wrong) in [
        ("exp", [now - 3600, now - 31, now, 0, -1]),
        ("nbf", [now + 3600, now + 120, now + 86_400, i64::MAX, now + 10 * 365 * 86_400]),
        ("iat", [now + 3600, now + 120, now + 86_400, i64::MAX, now + 10 * 365 * 86_400]),
    ] {
        forge.claims(&[name], wrong.map(Value::from));
        for value in [
            json!(null),
            json!((now + 1800).to_string()),
            json!(now as f64 + 0.5),
            json!([now]),
            json!(1e300),
            json!(true),
        ] {
            forge.claim(&[name], value);
        }
    }
}

/// CVE-2021-41802 and its like: names and uids are what the signature covers, and they belong together.
fn identities(forge: &mut Forge<'_>, cast: &Cast) {
    forge.claims(
        &["sub"],
        [
            json!("system:serviceaccount:shop:admin"),
            json!("system:serviceaccount:kube-system:web"),
            json!("admin"),
            json!("system:serviceaccount:shop:web:x"),
            json!("system:node:node-1"),
            json!("SYSTEM:serviceaccount:shop:web"),
            json!("system:serviceaccount:shop"),
            json!(""),
            json!(null),
            json!("system:serviceaccount:shop:web "),
        ],
    );
    let private = "kubernetes.io";
    for name in ["*", "**", "..", "a/b", "{{namespace}}", "", "Shop", "shop/", "a b", "ѕhop"] {
        let text = forge.good().with(&[private, "namespace"], name.into());
        let text = text.with(&["sub"], format!("system:serviceaccount:{name}:web").into());
        forge.row(format!("namespace {name:?}"), text.sign(forge.key));
        let text = forge.good().with(&[private, "serviceaccount", "name"], name.into());
        let text = text.with(&["sub"], format!("system:serviceaccount:shop:{name}").into());
        forge.row(format!("account {name:?}"), text.sign(forge.key));
        forge.claim(&[private, "pod", "name"], name.into());
        forge.claim(&[private, "node", "name"], name.into());
    }
    forge.claims(&[private], [json!(null), json!({}), json!([]), json!("shop")]);
    forge.claims(&[private, "namespace"], [json!("other"), json!(null), json!(["shop"])]);
    forge.claims(&[private, "serviceaccount"], [json!(null), json!({}), json!("web")]);
    forge.claims(
        &[private, "serviceaccount", "uid"],
        [json!(""), json!(null), json!("no/uid"), json!("another-uid")],
    );
    forge.claims(&[private, "pod", "uid"], [json!(""), json!(null), json!("*"), json!("another-uid")]);
    forge.claim(&[private, "pod"], json!("web-0"));
    for (what, pod) in [
        ("a pod that is gone", &cast.gone),
        ("a pod that was made anew under the same name", &cast.anew),
        ("an account that was made anew under the same name", &cast.account_anew),
    ] {
        let token = forge.kubernetes.token(pod, AUDIENCE, HOUR);
        forge.row(format!("the token of {what}"), token);
    }
    let mixed = Pod { uid: cast.gone.uid.clone(), ..cast.pod.clone() };
    let token = forge.kubernetes.token(&mixed, AUDIENCE, HOUR);
    forge.row("the name of a pod with the uid of one that is gone", token);
    let moved = forge.good().sign(forge.key);
    let claims = forge.good().with(&[private, "node", "name"], "node-2".into());
    let token = with_part(&moved, 1, &BASE64URL_NOPAD.encode(claims.claims.to_string().as_bytes()));
    forge.row("moved to another node without signing it anew", token);
}

/// Things that are no token, or not the one that was signed.
fn texts(forge: &mut Forge<'_>) {
    let good = forge.good().sign(forge.key);
    let (message, signature) = good.rsplit_once('.').unwrap_or_default();
    let (header, claims) = message.split_once('.').unwrap_or_default();
    let encode = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
    let signed = |header: &str, claims: &str| {
        let message = format!("{}.{}", encode(header), encode(claims));
        let signature = forge.key.sign(message.as_bytes(), Algorithm::Fitting);
        format!("{message}.{}", BASE64URL_NOPAD.encode(&signature))
    };
    let plain = forge.good().claims.to_string();
    let own = format!(r#"{{"alg":"{}","kid":"{}"}}"#, forge.key.alg(), forge.key.kid());
    let twice = plain.replacen('{', r#"{"aud":["vault"],"#, 1);
    let alg_twice = own.replacen('{', r#"{"alg":"none","#, 1);
    let rows = [
        ("nothing", String::new()),
        ("a dot", ".".into()),
        ("two dots", "..".into()),
        ("no base64", "!.!.!".into()),
        ("words", "a.b.c".into()),
        ("one part", header.into()),
        ("two parts", message.into()),
        ("an empty signature", format!("{message}.")),
        ("four parts", format!("{good}.{signature}")),
        ("five parts, as if encrypted", format!("{good}.{signature}.{signature}")),
        ("padding", format!("{good}=")),
        ("a space before", format!(" {good}")),
        ("a newline after", format!("{good}\n")),
        ("a NUL after", format!("{good}\0")),
        ("Bearer before", format!("Bearer {good}")),
        (
            "half a signature",
            format!("{message}.{}", signature.get(..signature.len() / 2).unwrap_or_default()),
        ),
        ("a longer signature", format!("{message}.{signature}AAAA")),
        ("a signature twice", format!("{message}.{signature}{signature}")),
        ("claims and header swapped", format!("{claims}.{header}.{signature}")),
        ("no header", format!(".{claims}.{signature}")),
        ("no claims", format!("{header}..{signature}")),
        ("a header that is a list", signed("[]", &plain)),
        ("a header that is no JSON", signed("alg=RS256", &plain)),
        ("claims that are a list", signed(&own, "[]")),
        ("claims that are no JSON", signed(&own, "sub=web")),
        ("claims with something after", signed(&own, &format!("{plain} {{}}"))),
        ("claims with an audience twice", signed(&own, &twice)),
        ("a header with an algorithm twice", signed(&alg_twice, &plain)),
        ("claims that do not end", signed(&own, plain.trim_end_matches('}'))),
        ("claims of great depth", signed(&own, &"[".repeat(2000))),
        ("a token of 9 KiB", format!("{good}{}", "A".repeat(9 << 10))),
        ("only dots", ".".repeat(8000)),
    ];
    rows.into_iter().for_each(|(what, token)| forge.row(what, token));
}

/// A bit of each part of a good token.
fn flips(forge: &mut Forge<'_>, dice: &mut Dice) {
    let good = forge.good().sign(forge.key);
    for (part, name) in ["header", "claims", "signature"].into_iter().enumerate() {
        for _ in 0..FLIPS {
            let text = good.split('.').nth(part).unwrap_or_default();
            let mut bytes = BASE64URL_NOPAD.decode(text.as_bytes()).unwrap_or_default();
            let (at, bit) = (dice.below(bytes.len() as u64), dice.below(8));
            if let Some(byte) = usize::try_from(at).ok().and_then(|at| bytes.get_mut(at)) {
                *byte ^= 1 << bit;
            }
            let token = with_part(&good, part, &BASE64URL_NOPAD.encode(&bytes));
            forge.row(format!("bit {bit} of byte {at} of the {name} flipped"), token);
        }
    }
}

/// CVE-2022-21449 and other ways of writing two numbers.
pub(super) fn signatures_of_ec(kubernetes: &FakeKubernetes, cast: &Cast) -> Vec<Forgery> {
    let key = kubernetes.signing_key();
    let message = kubernetes.token_text(&cast.pod, AUDIENCE, HOUR).message(&key);
    let signature = key.sign(message.as_bytes(), Algorithm::Fitting);
    let (r, s) = signature.split_at(signature.len() / 2);
    let der = [&[0x30, 0x44, 0x02, 0x20][..], r, &[0x02, 0x20], s].concat();
    let order = [&[0xff; 4][..], &[0; 4], &[0xff; 24]].concat();
    [
        ("zeros", vec![0; 64]),
        ("ones", vec![0xff; 64]),
        ("r is zero", [&[0; 32][..], s].concat()),
        ("s is zero", [r, &[0; 32][..]].concat()),
        ("beyond the order", [&order[..], &order[..]].concat()),
        ("in DER", der),
        ("r and s swapped", [s, r].concat()),
        ("r and s with leading zeros", [&[0][..], r, &[0], s].concat()),
    ]
    .into_iter()
    .map(|(what, signature)| Forgery {
        what: format!("a signature of {what}"),
        token: format!("{message}.{}", BASE64URL_NOPAD.encode(&signature)),
        lie: None,
    })
    .collect()
}

fn with_part(token: &str, part: usize, text: &str) -> String {
    let mut parts: Vec<&str> = token.split('.').collect();
    if let Some(there) = parts.get_mut(part) {
        *there = text;
    }
    parts.join(".")
}
