//! The sections `[auth.kubernetes.NAME]`: one for each cluster whose pods may log in.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::{Reader, Section, shown};

/// Where a pod finds what it needs to talk to its own cluster.
const OWN_CA: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";
/// See [`OWN_CA`].
const OWN_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// The audience that tokens for us are made for, if nothing else is said.
const AUDIENCE: &str = "strongroom";
/// Longest audience or issuer.
const TEXT_BYTES: usize = 512;
/// Longest name of a cluster; it is a segment of every principal.
const NAME_BYTES: usize = 63;
/// Most clusters: each keeps two watches open.
const CLUSTERS: usize = 64;

/// A cluster whose pods may log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// How tokens are judged.
    pub mode: Mode,
    /// The audience that a token must be made for.
    pub audience: String,
    /// Who makes the tokens; in review mode only for better errors.
    pub issuer: Option<String>,
    /// Where its API is.
    pub api_server: ApiServer,
    /// Who vouches for the API server.
    pub ca_file: PathBuf,
    /// Our own credential there.
    pub token_file: PathBuf,
    /// Whether deleted pods and accounts are cut off at once.
    pub watch: bool,
    /// Life of a session, and by how much a renewal extends it.
    pub session: Duration,
    /// Life of a session with all its renewals.
    pub session_max: Duration,
}

/// How tokens are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The API server is asked.
    Review,
    /// By the cluster's public keys, and by the watch.
    Local,
}

/// Where a cluster's API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiServer {
    /// In the cluster that this server runs in, as the environment of its pod says.
    Own,
    /// There: `https://host:port`.
    At(String),
}

/// All of them; reads every section before it gives up on any.
pub(super) fn clusters(reader: &mut Reader) -> Option<BTreeMap<Box<str>, Cluster>> {
    let mut auth = reader.section("auth");
    let tables = auth.tables("kubernetes");
    if tables.len() > CLUSTERS {
        auth.problem("kubernetes", format!("has {} sections; expected at most {CLUSTERS}", tables.len()));
    }
    let mut clusters = Some(BTreeMap::new());
    for (name, table) in tables {
        if !is_name(&name) {
            let problem = format!("names its cluster {name:?}; expected 1 to {NAME_BYTES} of a-z, 0-9 and -");
            auth.problem("kubernetes", problem);
        }
        match (cluster(auth.nested(&format!("kubernetes.{name}"), table)), &mut clusters) {
            (Some(cluster), Some(clusters)) => drop(clusters.insert(name.into(), cluster)),
            _ => clusters = None,
        }
    }
    auth.end();
    clusters
}

fn cluster(mut s: Section<'_>) -> Option<Cluster> {
    let mode = s.choice("mode", &[("review", Mode::Review), ("local", Mode::Local)]);
    let audience = s.text("audience").unwrap_or_else(|| Some(AUDIENCE.to_owned()));
    let issuer = s.text("issuer");
    if mode == Some(Mode::Local) && issuer.is_none() {
        let hint = "kubectl get --raw /.well-known/openid-configuration shows it";
        s.problem(
            "issuer",
            format!("is missing; local mode expects the issuer of the cluster's tokens: {hint}"),
        );
    }
    let api_server = s.api_server("api_server");
    let ca_file = s.path("ca_file").unwrap_or_else(|| OWN_CA.into());
    let token_file = s.path("token_file").unwrap_or_else(|| OWN_TOKEN.into());
    let watch = s.boolean("watch", true);
    if mode == Some(Mode::Local) && watch == Some(false) {
        s.problem("watch", "is false; local mode expects true: it has no other way to know of deleted pods");
    }
    let minutes = s.number("session_minutes", 15, 1, 60);
    let max_minutes = s.number("session_max_minutes", 120, 1, 1440);
    if let (Some(minutes), Some(max)) = (minutes, max_minutes)
        && max < minutes
    {
        s.problem("session_max_minutes", format!("is {max}; expected at least session_minutes, {minutes}"));
    }
    s.end();
    let of_minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    Some(Cluster {
        mode: mode?,
        audience: audience?,
        issuer: issuer.flatten(),
        api_server: api_server?,
        ca_file,
        token_file,
        watch: watch?,
        session: minutes.map(of_minutes)?,
        session_max: max_minutes.map(of_minutes)?,
    })
}

fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=NAME_BYTES).contains(&name.len()) && name.bytes().all(fits)
}

impl Section<'_> {
    /// `None`: nothing was said. `Some(None)`: something wrong was.
    fn text(&mut self, key: &'static str) -> Option<Option<String>> {
        let value = self.take(key)?;
        Some(match value.as_str() {
            Some(text) if (1..=TEXT_BYTES).contains(&text.len()) && !text.contains(char::is_control) => {
                Some(text.to_owned())
            }
            _ => self.wrong(key, &value, &format!("a text of 1 to {TEXT_BYTES} bytes")),
        })
    }

    fn api_server(&mut self, key: &'static str) -> Option<ApiServer> {
        let Some(value) = self.take(key) else { return Some(ApiServer::Own) };
        let given = value.as_str().and_then(|text| text.parse::<http::Uri>().ok());
        let fits = given.is_some_and(|uri| {
            uri.scheme_str() == Some("https")
                && uri.host().is_some_and(|host| !host.is_empty())
                && uri.path_and_query().is_none_or(|path| path == "/")
                && !uri.authority().is_some_and(|authority| authority.as_str().contains('@'))
        });
        match value.as_str() {
            Some(text) if fits => Some(ApiServer::At(text.to_owned())),
            // What stands before an @ can be a password.
            Some(text) if text.contains('@') => {
                self.problem(key, "holds a credential; expected https://HOST:PORT, and token_file for it");
                None
            }
            _ => {
                self.problem(key, format!("is {}; expected https://HOST:PORT", shown(&value)));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Overrides, parse},
        *,
    };

    const TLS: &str = "[tls]\ncertificate = \"c\"\nkey = \"k\"\n";

    fn read(text: &str) -> Result<BTreeMap<Box<str>, Cluster>, Vec<String>> {
        let config = parse(&format!("{TLS}{text}"), &Overrides::default());
        config.map(|config| config.kubernetes).map_err(|told| told.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_section_alone_is_the_cluster_we_run_in() {
        let clusters = read("[auth.kubernetes.main]\n").unwrap();
        let expected = Cluster {
            mode: Mode::Review,
            audience: "strongroom".into(),
            issuer: None,
            api_server: ApiServer::Own,
            ca_file: OWN_CA.into(),
            token_file: OWN_TOKEN.into(),
            watch: true,
            session: Duration::from_secs(900),
            session_max: Duration::from_secs(7200),
        };
        assert_eq!(clusters, BTreeMap::from([("main".into(), expected)]));
    }

    #[test]
    fn several_clusters() {
        let clusters = read(
            "[auth.kubernetes.main]\n[auth.kubernetes.edge-1]\nmode = \"local\"\nissuer = \"https://edge\"\n\
             api_server = \"https://[fd00::1]:6443\"\naudience = \"vault\"\nsession_minutes = 5\n",
        )
        .unwrap();
        assert_eq!(clusters.len(), 2);
        let edge = &clusters["edge-1"];
        assert_eq!((edge.mode, edge.issuer.as_deref()), (Mode::Local, Some("https://edge")));
        assert_eq!(edge.api_server, ApiServer::At("https://[fd00::1]:6443".into()));
        assert_eq!(edge.session, Duration::from_secs(300));
    }

    #[test]
    fn every_mistake_is_told() {
        let told = read(
            "[auth]\nkubernets = 1\n[auth.kubernetes.Main]\nmode = \"jwt\"\naudience = \"\"\nwatch = 3\n\
             [auth.kubernetes.edge]\nmode = \"local\"\nwatch = false\nsession_minutes = 0\naudiences = [\"a\"]\n\
             [auth.kubernetes.a]\napi_server = \"http://plain:80\"\nsession_minutes = 30\nsession_max_minutes = 20\n\
             [auth.kubernetes.b]\napi_server = \"https://user:hunter2@host\"\n",
        )
        .unwrap_err();
        for (key, words) in [
            ("auth.kubernets", "did you mean kubernetes?"),
            ("auth.kubernetes", "\"Main\"; expected 1 to 63"),
            ("auth.kubernetes.Main.mode", "\"jwt\"; expected \"review\" or \"local\""),
            ("auth.kubernetes.Main.audience", "a text of 1 to 512"),
            ("auth.kubernetes.Main.watch", "true or false"),
            ("auth.kubernetes.edge.issuer", "is missing"),
            ("auth.kubernetes.edge.watch", "local mode expects true"),
            ("auth.kubernetes.edge.session_minutes", "from 1 to 60"),
            ("auth.kubernetes.edge.audiences", "did you mean audience?"),
            ("auth.kubernetes.a.api_server", "expected https://HOST:PORT"),
            ("auth.kubernetes.a.session_max_minutes", "at least session_minutes, 30"),
            ("auth.kubernetes.b.api_server", "holds a credential"),
        ] {
            let fits = |line: &&String| line.starts_with(&format!("{key}:")) && line.contains(words);
            assert!(told.iter().any(|line| fits(&line)), "{key} in {told:#?}");
        }
        assert_eq!(told.len(), 12, "{told:#?}");
        assert!(!told.iter().any(|line| line.contains("hunter2")));
    }

    #[test]
    fn a_cluster_is_a_section() {
        let told = read("[auth]\nkubernetes = true\n").unwrap_err();
        assert!(
            told.iter().any(|line| line.contains("expected sections [auth.kubernetes.NAME]")),
            "{told:?}"
        );
        let told = read("[auth.kubernetes]\nmain = 1\n").unwrap_err();
        assert!(told.iter().any(|line| line.starts_with("auth.kubernetes.main: is 1")), "{told:?}");
    }
}
