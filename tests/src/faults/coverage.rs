//! Every RPC, from the access table: refused without a credential, with a foreign one and without a role; recorded
//! exactly as often as it must be; and none of the canaries that went in comes out anywhere it should not.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use prost::Message;
use strongroom_proto::v1::{self, auth_client::AuthClient, policy_client::PolicyClient};
use strongroom_server::{
    admission::access::{Access, Credential, TABLE},
    api,
    engines::KINDS,
};
use tonic::{
    Code, Status,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use crate::{
    audit_log::{self, segments},
    bench::subject::{Subject, bearer, channel, login, with},
    fake_kubernetes::{CREDENTIAL, FakeKubernetes, Mood},
    figures::Figure,
    raw,
    server::Options,
    wait::{DEADLINE, found},
    world::log_in_as_pod,
};

/// About oneself, or about one lease, of which only the lease says whose it is: any session may ask, so a session without roles is
/// not refused.
const ANY_SESSION: &[&str] = &[
    "Auth.Renew",
    "Auth.Whoami",
    "Auth.Logout",
    "Auth.ChangePassword",
    "Policy.CanI",
    "Leases.Renew",
    "Leases.Forget",
];
/// Secrets that must not come out. Each goes in through another door.
const CANARIES: usize = 22;
/// The reader in the server's log must see everything there is to see.
const LEVEL: &str = "trace";
/// The id of a lease that there is not.
const NO_LEASE: &str = "00112233445566778899aabbccddeeff";
/// A user without any role.
const NOBODY: &str = "nobody";

/// What went wrong, and what the callers were told.
#[derive(Default)]
struct Findings {
    calls: u64,
    let_in: Vec<String>,
    miscounted: Vec<String>,
    /// Records that do not say to which object it was done.
    unnamed: Vec<String>,
    /// Everything the callers were told.
    told: String,
}

/// Runs it.
///
/// # Errors
/// The harness itself failed, or an RPC has no sample here.
pub async fn run(work: &Path) -> io::Result<Vec<Figure>> {
    let directory = work.join("coverage");
    let foreign = work.join("foreign");
    fs::create_dir_all(&directory)?;
    fs::create_dir_all(&foreign)?;
    let kubernetes = FakeKubernetes::start().await?;
    let config = kubernetes.config_toml("main") + &kubernetes.config_toml_local("local");
    let options = Options { level: LEVEL, config, ..Options::default() };
    let subject = Subject::start(&directory, &options).await?;
    let stranger = Subject::start(&foreign, &Options::default()).await?.token;
    let channel = channel(&subject.server.url, &subject.server.ca()).await?;
    let nobody = make_nobody(&channel, &subject).await?;
    let forged: MetadataValue<Ascii> =
        format!("Bearer sr1_{}", canary(0)).parse().map_err(io::Error::other)?;

    let mut findings = Findings::default();
    let mut log = AuditLog::new(directory.join("audit"));
    log.news()?;
    for access in TABLE.iter().filter(|access| !access.name.starts_with("grpc.")) {
        let rpc = &*api::path(access.name);
        let sample = sample(access.name)?;
        // A session of its own for each, because one of them is a logout.
        let known = login(&subject.server).await?;
        log.news()?;
        if access.credential == Credential::Token {
            for (who, token) in [
                ("nobody at all", None),
                ("a foreign token", Some(&stranger)),
                ("a forged token", Some(&forged)),
            ] {
                let told = raw::call(&channel, rpc, token, sample.clone()).await;
                findings.expect(access, who, &told, &[Code::Unauthenticated]);
                findings.records(access, who, &log.news()?, Expect::Refusal);
            }
            if !ANY_SESSION.contains(&access.name) {
                let told = raw::call(&channel, rpc, Some(&nobody), sample.clone()).await;
                findings.expect(access, "a session without a role", &told, &[Code::PermissionDenied]);
                findings.records(access, "a session without a role", &log.news()?, Expect::Refusal);
            }
        }
        // Bytes that are no message of any kind: field 1 as a string that ends too early, with a canary in it.
        let told = raw::call(&channel, rpc, Some(&known), malformed()).await;
        findings.expect(access, "a malformed message", &told, &[Code::Internal, Code::InvalidArgument]);
        log.news()?;
        // And as one who may, or at least is known.
        let told = raw::call(&channel, rpc, Some(&known), sample).await;
        findings.tell(&told);
        findings.calls += 1;
        let news = log.ended()?;
        let expected = if access.audited { Expect::Any } else { Expect::Nothing };
        findings.records(access, "one who is known", &news, expected);
        if access.audited {
            findings.objects(access, &news);
        }
    }
    let mut secrets = show_tokens(&kubernetes, &channel, &mut findings).await;
    secrets.extend((0..CANARIES).map(|n| (format!("canary {n}"), canary(n))));
    let leaks = leaks(&subject, &findings.told, &secrets).await?;
    let tries = findings.calls;
    for problem in findings.let_in.iter().chain(&findings.miscounted).chain(&findings.unnamed).chain(&leaks) {
        complain(problem);
    }
    let count = |problems: &[String]| problems.len() as u64;
    Ok(vec![
        Figure::never("every RPC: answered someone it must refuse", count(&findings.let_in), "calls", tries),
        Figure::never(
            "every RPC: records other than one, or one intent and one outcome",
            count(&findings.miscounted),
            "calls",
            tries,
        ),
        Figure::never(
            "every RPC: records that do not name their object",
            count(&findings.unnamed),
            "RPCs",
            TABLE.iter().filter(|access| access.audited).count() as u64,
        ),
        Figure::never(
            "canary secrets found in log, audit, metrics, errors or data",
            count(&leaks),
            "places",
            CANARIES as u64,
        ),
    ])
}

#[expect(clippy::print_stderr, reason = "the table gives the number, this the names")]
fn complain(problem: &str) {
    eprintln!("  {problem}");
}

impl Findings {
    fn expect(&mut self, access: &Access, who: &str, told: &Result<Option<Vec<u8>>, Status>, codes: &[Code]) {
        self.calls += 1;
        self.tell(told);
        match told {
            Err(status) if codes.contains(&status.code()) => {}
            Err(status) => self.let_in.push(format!("{} with {who}: {status}", access.name)),
            // An RPC whose message has no fields takes anything for an empty one.
            Ok(_) if who == "a malformed message" => {}
            Ok(_) => self.let_in.push(format!("{} with {who}: answered", access.name)),
        }
    }

    fn tell(&mut self, told: &Result<Option<Vec<u8>>, Status>) {
        if let Err(status) = told {
            self.told.push_str(status.message());
            self.told.push_str(&String::from_utf8_lossy(status.details()));
            self.told.push_str(&format!("{:?}", status.metadata()));
        }
    }

    async fn tell_login(&mut self, channel: &Channel, cluster: &str, token: &str) {
        self.calls += 1;
        match log_in_as_pod(channel, cluster, token).await {
            Err(status) => self.tell(&Err(status)),
            Ok(_) => self.let_in.push(format!("Auth.Login with a forged token at {cluster}")),
        }
    }

    /// Who did what to which object: the question's record has the names of [`names`].
    fn objects(&mut self, access: &Access, news: &[serde_json::Value]) {
        let lines: Vec<String> = news.iter().map(ToString::to_string).collect();
        for name in names(access.name) {
            if !lines.iter().any(|line| line.contains(name)) {
                self.unnamed.push(format!("{}: nothing of {name} in {lines:?}", access.name));
            }
        }
    }

    fn records(&mut self, access: &Access, who: &str, news: &[serde_json::Value], expected: Expect) {
        let mut by_request: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
        for line in news {
            let text = |name: &str| line.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
            if matches!(text("kind"), "request" | "outcome") {
                by_request.entry(text("request_id")).or_default().push((text("kind"), text("status")));
            }
        }
        let shapes: Vec<_> = by_request.into_values().collect();
        let fits = match (expected, shapes.as_slice()) {
            (Expect::Nothing, []) => true,
            (Expect::Refusal, [one]) => matches!(one.as_slice(), [("request", "denied")]),
            (Expect::Any, [one]) => matches!(
                one.as_slice(),
                [("request", "ok" | "denied" | "error")]
                    | [("request", "pending" | "ok"), ("outcome", "ok" | "denied" | "error")]
            ),
            _ => false,
        };
        if !fits {
            self.miscounted.push(format!("{} with {who}: {shapes:?}", access.name));
        }
    }
}

/// What a call must leave in the log.
#[derive(Clone, Copy)]
enum Expect {
    Nothing,
    Refusal,
    Any,
}

/// Reads what is new in the audit directory.
struct AuditLog {
    directory: PathBuf,
    read: BTreeMap<PathBuf, usize>,
}

impl AuditLog {
    fn new(directory: PathBuf) -> Self {
        Self { directory, read: BTreeMap::new() }
    }

    /// What is new, once each write in it has its outcome, which may follow the answer.
    fn ended(&mut self) -> io::Result<Vec<serde_json::Value>> {
        let mut news = Vec::new();
        found("each write has its outcome", DEADLINE, || {
            news.extend(self.news()?);
            let of = |name: &str, value: &str| news.iter().filter(|line| line[name] == value).count();
            Ok((of("status", "pending") <= of("kind", "outcome")).then_some(()))
        })?;
        Ok(news)
    }

    fn news(&mut self) -> io::Result<Vec<serde_json::Value>> {
        let mut news = Vec::new();
        for file in segments(&self.directory)? {
            let text = audit_log::text(&file)?;
            let read = self.read.insert(file, text.len()).unwrap_or_default();
            for line in text.get(read..).unwrap_or_default().lines() {
                news.push(serde_json::from_str(line)?);
            }
        }
        Ok(news)
    }
}

/// The `n`-th canary: long and unlike anything else.
fn canary(n: usize) -> String {
    format!("canary-{n:02}-Zq7xW2mVt9LpRk4h-{}", n * 7_919)
}

/// Every place where a canary must not be: log, audit, metrics, what callers were told, data at rest.
async fn leaks(subject: &Subject, told: &str, secrets: &[(String, String)]) -> io::Result<Vec<String>> {
    let metrics = http_get(subject.server.ops, "/metrics").await?;
    let mut places = vec![
        ("the log".to_owned(), subject.server.log().into_bytes()),
        ("the metrics".to_owned(), metrics),
        ("an error".to_owned(), told.as_bytes().to_vec()),
    ];
    for folder in ["audit", "data"] {
        for file in files_below(&subject.server.directory.join(folder))? {
            places.push((file.display().to_string(), fs::read(&file)?));
        }
    }
    let mut found = BTreeSet::new();
    for (place, bytes) in &places {
        for (what, needle) in secrets {
            if bytes.windows(needle.len()).any(|window| window == needle.as_bytes()) {
                found.insert(format!("{what} in {place}"));
            }
        }
    }
    Ok(found.into_iter().collect())
}

fn files_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { files.extend(files_below(&path)?) } else { files.push(path) }
    }
    Ok(files)
}

/// A plain GET, as Prometheus does it.
///
/// # Errors
/// No answer.
pub async fn http_get(address: std::net::SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}

/// Good service-account tokens first, and the server's own credential at the cluster; what is returned must be nowhere.
/// Then others, judged in all the ways there are: not by their form, refused, not readably answered (the answer repeats the token), not
/// answered at all, and by keys.
async fn show_tokens(
    kubernetes: &FakeKubernetes,
    channel: &Channel,
    findings: &mut Findings,
) -> Vec<(String, String)> {
    let pod = kubernetes.create_pod("coverage", "coverage", "coverage-0");
    let hour = std::time::Duration::from_secs(3600);
    let text = |n| kubernetes.token_text(&pod, "strongroom", hour).with(&["jti"], canary(n).into());
    let signed = |n| format!("{}.{}", text(n).sign(&kubernetes.signing_key()), canary(n));
    let lie = |status| kubernetes.lie(Some(status));
    let mut secrets = vec![("the server's own credential at the cluster".to_owned(), CREDENTIAL.to_owned())];
    for cluster in ["main", "local"] {
        let good = kubernetes.token(&pod, "strongroom", hour);
        findings.calls += 1;
        // The watch may not be there yet; whether it is let in does not matter here.
        let told = log_in_as_pod(channel, cluster, &good).await;
        findings.tell(&told.map(|_| None));
        secrets.push((format!("the good token of a pod at {cluster}"), good));
        for token in [canary(11), signed(12)] {
            findings.tell_login(channel, cluster, &token).await;
        }
    }
    lie(serde_json::json!("no status"));
    findings.tell_login(channel, "main", &canary(13)).await;
    lie(serde_json::json!({ "error": canary(14) }));
    findings.tell_login(channel, "main", &canary(14)).await;
    kubernetes.set_mood(Mood { down: true, ..Mood::default() });
    findings.tell_login(channel, "main", &canary(15)).await;
    findings.tell_login(channel, &canary(16), &canary(16)).await;
    secrets
}

/// What the records of that RPC's sample have to say. An RPC that is not here has to say where, at least.
fn names(rpc: &str) -> &'static [&'static str] {
    const PLACE: &str = "\"path\":\"secret/coverage/one\"";
    match rpc {
        "Secrets.Put" | "Secrets.Get" => &[PLACE, "\"version\":"],
        "Secrets.Patch" => &[PLACE, "data.other"],
        "Secrets.Delete" | "Secrets.Undelete" | "Secrets.Destroy" => &[PLACE, "\"version\":1"],
        "Secrets.UpdateMetadata" => &[PLACE, "\"objects\":[\"max_versions\"]"],
        "Secrets.List" | "Secrets.ListRecursive" => &["\"path\":\"secret\""],
        // One's own session, or what somebody tried to prove; a server has one store.
        "Auth.Renew" | "Auth.Whoami" | "Auth.Logout" => &["\"session\":\""],
        "Auth.Login" | "Sys.Init" | "Sys.Unseal" | "Sys.GenerateRoot" => &["\"operation\":\""],
        "Auth.ChangePassword" => &["\"session\":\"", "userpass/bench", "a new password"],
        "Auth.PutUser" => &["\"paths\":[\"sys/auth/userpass/carol\",\"sys/policy\"]", "a new password"],
        "Auth.DeleteUser" => &["sys/auth/userpass/carol"],
        "Auth.RevokeSessions" => &["userpass/carol"],
        "Policy.Apply" => &["apply Role coverage", "remove Binding gone", "\"sha256\":\"", "dry run"],
        "Policy.CanI" => &["read on secret/coverage/one"],
        "Policy.WhoCan" => &["sys/policy", "read on secret/coverage/one"],
        "Sys.Rekey" => &["to a key file"],
        "Sys.ConfirmRekey" => &["with 1 shares"],
        "Sys.Mount" => &["sys/mounts/coverage", "kv"],
        "Sys.Unmount" => &["sys/mounts/coverage", "with its data"],
        "Sys.Tune" => &["sys/mounts/secret", "\"objects\":[\"description\"]"],
        "Audit.Tail" => &["sys/audit", "the last 1 lines"],
        "Audit.Query" => &["sys/audit", "principal userpass/carol"],
        "Audit.Hash" => &["sys/audit/hash"],
        // The id is that of the request that has the path.
        "Leases.Renew" | "Leases.Forget" => &["lease 00112233445566778899aabbccddeeff"],
        "Leases.Issue" => &[PLACE, "whatever secret/ issues"],
        "Leases.List" => &["\"path\":\"sys/leases\"", "all"],
        "Wrapping.Wrap" => &[PLACE, "Secrets.Get for 60 s"],
        // A token that is none.
        "Wrapping.Unwrap" => &["\"operation\":\""],
        "Leases.Revoke" => &["\"path\":\"sys/leases/secret/coverage\"", "below secret/coverage"],
        _ => &["\"path\":\""],
    }
}

fn malformed() -> Vec<u8> {
    let mut bytes = vec![0x0a, 0x7f];
    bytes.extend_from_slice(canary(1).as_bytes());
    bytes
}

async fn make_nobody(channel: &Channel, subject: &Subject) -> io::Result<MetadataValue<Ascii>> {
    let name = NOBODY.to_owned();
    let password = || Some(sensitive(2));
    let user = v1::PutUserRequest { name: name.clone(), password: password(), ..Default::default() };
    AuthClient::new(channel.clone()).put_user(with(&subject.root, user)).await.map_err(io::Error::other)?;
    // The policy has nothing to do with nobody, but an apply is a door for canaries, too: a refused one.
    let bad =
        v1::ApplyRequest { yaml: format!("kind: Role\nname: x\n{}: 1\n", "unknown"), ..Default::default() };
    let refused = PolicyClient::new(channel.clone()).apply(with(&subject.root, bad)).await;
    if refused.is_ok() {
        return Err(io::Error::other("a policy with an unknown field was applied"));
    }
    let given = v1::login_request::Userpass { name, password: password() };
    let credential = Some(v1::login_request::Credential::Userpass(given));
    let answer = AuthClient::new(channel.clone()).login(v1::LoginRequest { credential }).await;
    bearer(&answer.map_err(io::Error::other)?.into_inner().token.unwrap_or_default())
}

fn sensitive(n: usize) -> v1::Sensitive {
    v1::Sensitive { value: canary(n).into_bytes() }
}

/// A well-formed message for each RPC, with canaries wherever a secret belongs.
fn sample(name: &str) -> io::Result<Vec<u8>> {
    let path = || "secret/coverage/one".to_owned();
    let data = |n| BTreeMap::from([("value".to_owned(), sensitive(n))]);
    let set =
        |n| v1::patch_request::Change { change: Some(v1::patch_request::change::Change::Set(sensitive(n))) };
    let file = || Some(v1::SealConfig { kind: Some(v1::seal_config::Kind::File(v1::seal_config::File {})) });
    let userpass = |n| v1::login_request::Userpass { name: "bench".to_owned(), password: Some(sensitive(n)) };
    let sealed = || vec![v1::CipherItem { ciphertext: canary(19), ..Default::default() }];
    Ok(match name {
        "Secrets.Put" => v1::PutRequest {
            path: path(),
            data: data(3),
            operation_id: "coverage".into(),
            ..Default::default()
        }
        .encode_to_vec(),
        "Secrets.Patch" => v1::PatchRequest {
            path: path(),
            changes: BTreeMap::from([("other".to_owned(), set(4))]),
            ..Default::default()
        }
        .encode_to_vec(),
        "Secrets.Get" => v1::GetRequest { path: path(), version: None }.encode_to_vec(),
        "Secrets.List" => v1::ListRequest { path: "secret".into(), ..Default::default() }.encode_to_vec(),
        "Secrets.ListRecursive" => v1::ListRecursiveRequest { path: "secret".into() }.encode_to_vec(),
        "Secrets.Watch" => v1::WatchRequest { paths: vec![path()] }.encode_to_vec(),
        "Secrets.Delete" => v1::DeleteRequest { path: path(), versions: vec![1] }.encode_to_vec(),
        "Secrets.Undelete" => v1::UndeleteRequest { path: path(), versions: vec![1] }.encode_to_vec(),
        "Secrets.Destroy" => {
            v1::DestroyRequest { path: path(), versions: vec![1], all: false }.encode_to_vec()
        }
        "Secrets.GetMetadata" => v1::GetMetadataRequest { path: path() }.encode_to_vec(),
        "Secrets.UpdateMetadata" => {
            v1::UpdateMetadataRequest { path: path(), max_versions: Some(5), ..Default::default() }
                .encode_to_vec()
        }
        "Auth.Login" => {
            v1::LoginRequest { credential: Some(v1::login_request::Credential::Userpass(userpass(5))) }
                .encode_to_vec()
        }
        "Auth.ChangePassword" => v1::ChangePasswordRequest {
            current_password: Some(sensitive(17)),
            new_password: Some(sensitive(18)),
        }
        .encode_to_vec(),
        "Auth.PutUser" => {
            v1::PutUserRequest { name: "carol".into(), password: Some(sensitive(6)), ..Default::default() }
                .encode_to_vec()
        }
        "Auth.DeleteUser" => v1::DeleteUserRequest { name: "carol".into() }.encode_to_vec(),
        "Auth.RevokeSessions" => v1::RevokeSessionsRequest {
            which: Some(v1::revoke_sessions_request::Which::Principal("userpass/carol".into())),
        }
        .encode_to_vec(),
        "Policy.Apply" => {
            let role = "kind: Role\nname: coverage\nrules:\n- paths: [\"secret/**\"]\n  verbs: [read]\n";
            let gone = v1::ObjectName { kind: "Binding".into(), name: "gone".into() };
            v1::ApplyRequest { yaml: role.into(), dry_run: true, remove: vec![gone], force: false }
                .encode_to_vec()
        }
        "Policy.CanI" => {
            v1::CanIRequest { verb: "read".into(), path: path(), ..Default::default() }.encode_to_vec()
        }
        "Policy.WhoCan" => v1::WhoCanRequest { verb: "read".into(), path: path() }.encode_to_vec(),
        "Sys.Init" => v1::InitRequest { seal: file() }.encode_to_vec(),
        "Sys.Unseal" => v1::UnsealRequest { share: Some(sensitive(7)) }.encode_to_vec(),
        "Sys.GenerateRoot" => v1::GenerateRootRequest { proof: vec![sensitive(11)] }.encode_to_vec(),
        "Sys.Rekey" => v1::RekeyRequest { seal: file(), current_shares: vec![sensitive(8)] }.encode_to_vec(),
        "Sys.ConfirmRekey" => v1::ConfirmRekeyRequest { new_shares: vec![sensitive(10)] }.encode_to_vec(),
        "Sys.Mount" => v1::MountRequest { name: "coverage".into(), kind: "kv".into(), ..Default::default() }
            .encode_to_vec(),
        "Sys.Unmount" => {
            v1::UnmountRequest { name: "coverage".into(), destroy_data: "coverage".into() }.encode_to_vec()
        }
        "Sys.Tune" => {
            v1::TuneRequest { name: "secret".into(), description: Some("covered".into()), settings: None }
                .encode_to_vec()
        }
        "Audit.Tail" => v1::TailRequest { last: 1, follow: false }.encode_to_vec(),
        "Audit.Query" => {
            v1::QueryRequest { limit: 1, principal: "userpass/carol".into(), ..Default::default() }
                .encode_to_vec()
        }
        "Audit.Hash" => v1::HashRequest { value: Some(sensitive(9)), path: path(), field: "data.k".into() }
            .encode_to_vec(),
        "Leases.Issue" => v1::IssueRequest { path: path(), ttl_seconds: 60 }.encode_to_vec(),
        "Leases.Renew" => {
            v1::RenewLeaseRequest { id: NO_LEASE.to_owned(), increment_seconds: 60 }.encode_to_vec()
        }
        "Leases.Revoke" => {
            let which = Some(v1::lease_selector::Which::Prefix("secret/coverage".to_owned()));
            v1::RevokeLeasesRequest { which: Some(v1::LeaseSelector { which }) }.encode_to_vec()
        }
        "Leases.Forget" => v1::ForgetLeaseRequest { id: NO_LEASE.to_owned() }.encode_to_vec(),
        "Wrapping.Wrap" => {
            let request = v1::GetRequest { path: path(), version: None }.encode_to_vec();
            let request = Some(v1::Sensitive { value: request });
            v1::WrapRequest { operation: "Secrets.Get".into(), request, ttl_seconds: 60 }.encode_to_vec()
        }
        "Wrapping.Unwrap" => v1::UnwrapRequest { token: Some(sensitive(21)) }.encode_to_vec(),
        // Messages without fields.
        "Auth.Renew" | "Auth.Whoami" | "Auth.Logout" | "Auth.ListUsers" | "Policy.Export" | "Sys.Status"
        | "Sys.Seal" | "Leases.List" | "Sys.Rotate" | "Sys.Scrub" | "Sys.ListMounts" => Vec::new(),
        // A mount that nobody has; what is asked of it is judged all the same.
        "Transit.Encrypt" => {
            let item = v1::PlainItem { plaintext: Some(sensitive(19)), ..Default::default() };
            v1::EncryptRequest { path: path(), items: vec![item], version: None }.encode_to_vec()
        }
        "Transit.Decrypt" => v1::DecryptRequest { path: path(), items: sealed() }.encode_to_vec(),
        "Transit.Rewrap" => v1::RewrapRequest { path: path(), items: sealed() }.encode_to_vec(),
        "Transit.DestroyKey" => {
            v1::DestroyKeyRequest { path: path(), all: true, ..Default::default() }.encode_to_vec()
        }
        "Database.Configure" => v1::ConfigureDatabaseRequest {
            path: path(),
            host: "127.0.0.1".into(),
            user: "coverage".into(),
            password: Some(sensitive(20)),
            plaintext: true,
            ..Default::default()
        }
        .encode_to_vec(),
        "Database.PutRole" => {
            let creation = vec!["CREATE ROLE {{name}} LOGIN PASSWORD {{password}}".to_owned()];
            v1::PutDatabaseRoleRequest { path: path(), creation, ..Default::default() }.encode_to_vec()
        }
        "Database.PutAccount" => v1::PutDatabaseAccountRequest {
            path: path(),
            user: "coverage".into(),
            rotation_period_seconds: 60,
        }
        .encode_to_vec(),
        "Pki.CreateIssuer" => {
            v1::CreatePkiIssuerRequest { path: path(), subject: "CN=coverage".into(), ..Default::default() }
                .encode_to_vec()
        }
        "Pki.ImportIssuer" => {
            let key_pem = Some(sensitive(22));
            v1::ImportPkiIssuerRequest { path: path(), key_pem, ..Default::default() }.encode_to_vec()
        }
        "Pki.SignIssuer" => {
            let csr_pem = include_str!("request.pem").to_owned();
            v1::SignPkiIssuerRequest { path: path(), csr_pem, ..Default::default() }.encode_to_vec()
        }
        "Pki.Sign" => {
            let csr_pem = include_str!("request.pem").to_owned();
            v1::SignPkiRequest { path: path(), csr_pem, ttl_seconds: 0 }.encode_to_vec()
        }
        "Pki.Revoke" => {
            v1::RevokePkiRequest { path: path(), serial: "0a".into(), ..Default::default() }.encode_to_vec()
        }
        // Whatever an engine is asked, it begins with where.
        other if KINDS.iter().flat_map(|kind| kind.service.rpcs).any(|rpc| rpc.name == other) => {
            v1::GetRequest { path: path(), version: None }.encode_to_vec()
        }
        unknown => {
            return Err(io::Error::other(format!("{unknown} has no sample in the coverage test: add one")));
        }
    })
}
