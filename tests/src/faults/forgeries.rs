//! Forged service-account tokens, and forged answers of an API server, at the real server: each has to be refused.
//!
//! The rows are made by hand from what has gone wrong elsewhere (each group names it) and are the same in every run; the
//! flipped bits are not, they come from the seed.

use std::{io, path::Path, time::Duration};

use data_encoding::{BASE64, BASE64URL_NOPAD};
use ring::hmac;
use serde::Deserialize;
use serde_json::{Value, json};
use tonic::{Code, transport::Channel};

use crate::{
    bench::subject::{Subject, channel},
    fake_kubernetes::{Algorithm, FakeKubernetes, ISSUER, Mood, Pod, SigningKey, TokenText},
    faults::dice::Dice,
    figures::Figure,
    server::Options,
    world::{log_in_as_pod, pause_until},
};

/// What tokens for the server under test are made for.
const AUDIENCE: &str = "strongroom";
const HOUR: Duration = Duration::from_secs(3600);
/// Flipped bits of each part of a token.
const FLIPS: usize = 20;

/// A row: what is wrong, and what is shown.
struct Forgery {
    what: String,
    token: String,
    /// What the API server says to it, in review mode.
    lie: Option<Value>,
}

/// Runs all of them.
///
/// # Errors
/// The harness itself failed: a good token was not let in.
pub async fn run(work: &Path, seed: u64) -> io::Result<Vec<Figure>> {
    let (mut let_in, mut tries) = (Vec::new(), 0);
    for (name, key) in [("rsa", SigningKey::rs256()?), ("ec", SigningKey::es256("ec-1")?)] {
        let kubernetes = FakeKubernetes::start().await?;
        kubernetes.rotate_key(key, true);
        let cast = Cast::new(&kubernetes);
        let place = work.join(format!("forgeries-{name}"));
        let scene = Scene::open(&place, &kubernetes, kubernetes.config_toml_local("main")).await?;
        scene.admits(&kubernetes.token(&cast.pod, AUDIENCE, HOUR)).await?;
        cast.leaves(&kubernetes, &scene).await?;
        let mut rows = tokens(&kubernetes, &cast, &mut Dice::new(seed))?;
        if name == "ec" {
            rows.extend(signatures_of_ec(&kubernetes, &cast));
        }
        tries += rows.len();
        let_in.extend(scene.play(&rows).await?);
        // As a list among others is fine, and so is a bare text.
        for audience in [json!(["vault", AUDIENCE]), json!(AUDIENCE)] {
            let good = kubernetes.token_text(&cast.pod, AUDIENCE, HOUR).with(&["aud"], audience);
            scene.admits(&good.sign(&kubernetes.signing_key())).await?;
        }
    }
    let kubernetes = FakeKubernetes::start().await?;
    let cast = Cast::new(&kubernetes);
    let place = work.join("forgeries-review");
    let scene = Scene::open(&place, &kubernetes, kubernetes.config_toml("main")).await?;
    scene.admits(&kubernetes.token(&cast.pod, AUDIENCE, HOUR)).await?;
    let rows = reviews(&kubernetes, &cast);
    tries += rows.len();
    let_in.extend(scene.play(&rows).await?);
    kubernetes.lie(Some(truth(&cast)));
    scene.admits(&kubernetes.token(&cast.other, AUDIENCE, HOUR)).await?;
    for what in &let_in {
        complain(what);
    }
    let (count, tries) = (let_in.len() as u64, tries as u64);
    Ok(vec![Figure::never("forged tokens and forged token reviews let in", count, "tries", tries)])
}

#[expect(clippy::print_stderr, reason = "the table gives the number, this the names")]
fn complain(what: &str) {
    eprintln!("  let in, or not judged: {what}");
}

/// Who is there, and who was.
struct Cast {
    pod: Pod,
    other: Pod,
    /// Deleted.
    gone: Pod,
    /// Deleted, and made anew under the same name.
    anew: Pod,
    /// Its account was deleted and made anew.
    account_anew: Pod,
}

impl Cast {
    fn new(kubernetes: &FakeKubernetes) -> Self {
        Self {
            pod: kubernetes.create_pod("shop", "web", "web-0"),
            other: kubernetes.create_pod("shop", "web", "web-1"),
            gone: kubernetes.create_pod("shop", "web", "web-2"),
            anew: kubernetes.create_pod("shop", "web", "web-3"),
            account_anew: kubernetes.create_pod("shop", "batch", "batch-0"),
        }
    }

    /// Those who were there are not any more, and the server has seen it.
    async fn leaves(&self, kubernetes: &FakeKubernetes, scene: &Scene<'_>) -> io::Result<()> {
        kubernetes.delete_pod(&self.gone);
        kubernetes.delete_pod(&self.anew);
        kubernetes.create_pod("shop", "web", "web-3");
        kubernetes.delete_account(&self.account_anew);
        kubernetes.create_pod("shop", "batch", "batch-1");
        let last = kubernetes.token(&self.account_anew, AUDIENCE, HOUR);
        pause_until("the server sees the account go", async || scene.code(&last).await != Some(Code::Ok))
            .await
    }
}

/// A server under test.
struct Scene<'a> {
    kubernetes: &'a FakeKubernetes,
    channel: Channel,
    _subject: Subject,
}

impl<'a> Scene<'a> {
    async fn open(place: &Path, kubernetes: &'a FakeKubernetes, config: String) -> io::Result<Self> {
        std::fs::create_dir_all(place)?;
        let subject = Subject::start(place, &Options { config, ..Options::default() }).await?;
        let channel = channel(&subject.server.url, &subject.server.ca()).await?;
        Ok(Self { kubernetes, channel, _subject: subject })
    }

    async fn code(&self, token: &str) -> Option<Code> {
        Some(
            log_in_as_pod(&self.channel, "main", token)
                .await
                .map_or_else(|status| status.code(), |_| Code::Ok),
        )
    }

    /// A good token is let in, or the rest would prove nothing.
    async fn admits(&self, token: &str) -> io::Result<()> {
        pause_until("a good token is let in", async || self.code(token).await == Some(Code::Ok)).await
    }

    /// What was let in, or was not judged at all.
    async fn play(&self, rows: &[Forgery]) -> io::Result<Vec<String>> {
        let mut wrong = Vec::new();
        for row in rows {
            self.kubernetes.lie(row.lie.clone());
            match log_in_as_pod(&self.channel, "main", &row.token).await {
                Err(status) if matches!(status.code(), Code::Unauthenticated | Code::InvalidArgument) => {}
                // An answer that is no answer is an outage, and lets nobody in.
                Err(status)
                    if row.lie.as_ref().is_some_and(is_no_answer) && status.code() == Code::Unavailable => {}
                Err(status) => wrong.push(format!("{}: {status}", row.what)),
                Ok(_) => wrong.push(row.what.clone()),
            }
        }
        self.kubernetes.lie(None);
        self.kubernetes.set_mood(Mood::default());
        Ok(wrong)
    }
}

/// All tokens that local mode has to refuse.
fn tokens(kubernetes: &FakeKubernetes, cast: &Cast, dice: &mut Dice) -> io::Result<Vec<Forgery>> {
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

/// Makes rows.
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
fn signatures_of_ec(kubernetes: &FakeKubernetes, cast: &Cast) -> Vec<Forgery> {
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

/// What a truthful API server says.
fn truth(cast: &Cast) -> Value {
    json!({
        "authenticated": true,
        "audiences": [AUDIENCE],
        "user": {
            "username": "system:serviceaccount:shop:web",
            "uid": cast.pod.account_uid,
            "groups": ["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"],
            "extra": {
                "authentication.kubernetes.io/pod-name": [cast.other.name],
                "authentication.kubernetes.io/pod-uid": [cast.other.uid],
            },
        },
    })
}

/// All answers to a review that have to be refused. Each with a token of its own, because answers are remembered.
fn reviews(kubernetes: &FakeKubernetes, cast: &Cast) -> Vec<Forgery> {
    let extra = |name: &str| format!("/user/extra/authentication.kubernetes.io~1{name}");
    let (pod_name, pod_uid, node) = (extra("pod-name"), extra("pod-uid"), extra("node-name"));
    let changes: Vec<(&str, Vec<Value>)> = vec![
        ("", vec![json!(null), json!([]), json!("authenticated"), json!(true), json!({})]),
        ("/authenticated", vec![json!(false), json!(null), json!("true"), json!(1), json!([true])]),
        (
            "/audiences",
            vec![
                json!([]),
                json!(null),
                json!(["vault"]),
                json!(AUDIENCE),
                json!(["Strongroom"]),
                json!(["strongroom "]),
                json!([""]),
                json!([["strongroom"]]),
                json!({ "0": "strongroom" }),
                json!(["strongroom/vault"]),
                json!([ISSUER]),
            ],
        ),
        ("/error", vec![json!("token has been invalidated"), json!(" "), json!({})]),
        ("/user", vec![json!(null), json!({}), json!("system:serviceaccount:shop:web"), json!([])]),
        (
            "/user/username",
            vec![
                json!(""),
                json!("alice"),
                json!("system:admin"),
                json!("system:node:node-1"),
                json!("system:anonymous"),
                json!("system:serviceaccount:shop"),
                json!("system:serviceaccount:shop:"),
                json!("system:serviceaccount::web"),
                json!("system:serviceaccount:shop:web:more"),
                json!("System:serviceaccount:shop:web"),
                json!("system:serviceaccounts:shop:web"),
                json!(" system:serviceaccount:shop:web"),
                json!("system:serviceaccount:shop:web\n"),
                json!("oidc:system:serviceaccount:shop:web"),
                json!("system:serviceaccount:*:web"),
                json!("system:serviceaccount:shop:../web"),
                json!("system:serviceaccount:shop/x:web"),
                json!("system:serviceaccount:SHOP:web"),
                json!(null),
                json!(["system:serviceaccount:shop:web"]),
            ],
        ),
        (
            "/user/uid",
            vec![json!(""), json!(null), json!("a/b"), json!("*"), json!(7), json!("u".repeat(65))],
        ),
        ("/user/extra", vec![json!([]), json!("x"), json!(7)]),
        (
            &pod_name,
            vec![
                json!([]),
                json!(["a", "b"]),
                json!([""]),
                json!(["../web"]),
                json!(null),
                json!(["*"]),
                json!("web-1"),
            ],
        ),
        (&pod_uid, vec![json!([]), json!(["a", "b"]), json!([""]), json!(["a/b"]), json!(null), json!([7])]),
        (&node, vec![json!([]), json!(["a", "b"]), json!(["a/b"]), json!([""])]),
    ];
    let mut rows = Vec::new();
    for (place, values) in changes {
        for value in values {
            let mut lie = truth(cast);
            let what =
                format!("a review whose {} is {value}", if place.is_empty() { "status" } else { place });
            put(&mut lie, place, value);
            // Nobody could tell these tokens from good ones.
            let jti = format!("review-{}", rows.len());
            let text = kubernetes.token_text(&cast.other, AUDIENCE, HOUR).with(&["jti"], jti.into());
            rows.push(Forgery { what, token: text.sign(&kubernetes.signing_key()), lie: Some(lie) });
        }
    }
    rows
}

/// Whether it is not of the types of `TokenReviewStatus` (authentication.k8s.io/v1), so that no client could read it.
fn is_no_answer(lie: &Value) -> bool {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    #[expect(dead_code, reason = "read for their types")]
    struct Status {
        authenticated: bool,
        audiences: Vec<String>,
        error: String,
        user: User,
    }
    #[derive(Deserialize, Default)]
    #[serde(default)]
    #[expect(dead_code, reason = "read for their types")]
    struct User {
        username: String,
        uid: String,
        extra: std::collections::BTreeMap<String, Vec<String>>,
    }
    Status::deserialize(lie).is_err()
}

/// Puts a value at a JSON pointer, where there may be nothing yet.
fn put(whole: &mut Value, place: &str, value: Value) {
    if let Some(there) = whole.pointer_mut(place) {
        *there = value;
    } else if let Some((folder, name)) = place.rsplit_once('/')
        && let Some(folder) = whole.pointer_mut(folder).and_then(Value::as_object_mut)
    {
        folder.insert(name.replace("~1", "/"), value);
    }
}

fn with_part(token: &str, part: usize, text: &str) -> String {
    let mut parts: Vec<&str> = token.split('.').collect();
    if let Some(there) = parts.get_mut(part) {
        *there = text;
    }
    parts.join(".")
}
