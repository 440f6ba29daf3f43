//! Pods as clients, with the library, the command line and the example: the real server, a fake Kubernetes API.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends at the first surprise"
)]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use strongroom_client::{Builder, ChangeKind, Client, Error, ErrorKind, Reason, SecretBytes, StreamExt};
use strongroom_tests::{
    cli::Cli,
    fake_kubernetes::Pod,
    server::binary,
    shop::{DB, Shop},
    wait::{DEADLINE, found_async},
    world::{World, anonymous, builder},
};

/// A pod of the shop, and a file with its token.
struct ShopPod {
    shop: Shop,
    pod: Pod,
    token_file: PathBuf,
}

impl ShopPod {
    async fn open() -> ShopPod {
        let shop = Shop::open(false).await.unwrap();
        let (pod, token_file) = (shop.pod("web-0"), shop.world.home.path().join("token"));
        let shop_pod = ShopPod { shop, pod, token_file };
        shop_pod.project(&shop_pod.shop.token(&shop_pod.pod));
        shop_pod
    }

    /// As the kubelet does it: the new file takes the place of the old one.
    fn project(&self, token: &str) {
        let new = self.token_file.with_extension("new");
        fs::write(&new, token).unwrap();
        fs::rename(new, &self.token_file).unwrap();
    }

    async fn client(&self) -> Client {
        soon(|| self.builder().connect()).await
    }

    fn builder(&self) -> Builder {
        let builder = builder(&self.shop.world.server);
        builder.kubernetes("main").kubernetes_token_file(&self.token_file)
    }
}

/// Tried until the server has seen its cluster.
async fn soon<F: Future<Output = Result<Client, Error>>>(attempt: impl Fn() -> F) -> Client {
    let attempt = async || match attempt().await {
        Ok(client) => Some(client),
        Err(error) if error.is_transient() => None,
        Err(error) => panic!("{error}"),
    };
    found_async("the login", DEADLINE, attempt).await.unwrap()
}

async fn session_of(client: &Client) -> (String, String) {
    let session = client.auth().whoami().await.unwrap().session;
    (session.principal, session.id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_follows_its_projected_token() {
    let shop_pod = ShopPod::open().await;
    let client = shop_pod.client().await;
    assert_eq!(client.get(DB).await.unwrap().text("password"), Some("one"));
    let (principal, first) = session_of(&client).await;
    assert_eq!(principal, "kubernetes/main/shop/web");
    assert_eq!(client.auth().renew().await.unwrap().session.id, first, "renewed without another login");

    // A session that was ended stays ended, although there are credentials for another.
    client.auth().logout().await.unwrap();
    let ended = client.get(DB).await.unwrap_err();
    assert_eq!(ended.kind(), &ErrorKind::Unauthenticated(Reason::TokenMissing), "{ended}");

    // A session is made of what is in the file when it is needed, not of what was in it at the start.
    let client = shop_pod.builder().connect_lazily().await.unwrap();
    shop_pod.project("not.a.token");
    let refused = client.get(DB).await.unwrap_err();
    assert_eq!(refused.kind(), &ErrorKind::Unauthenticated(Reason::LoginRejected), "{refused}");
    shop_pod.project(&shop_pod.shop.token(&shop_pod.pod));
    assert_eq!(client.get(DB).await.unwrap().version, 1);
    assert_ne!(session_of(&client).await.1, first);

    fs::remove_file(&shop_pod.token_file).unwrap();
    let client = shop_pod.builder().connect_lazily().await.unwrap();
    let missing = client.get(DB).await.unwrap_err();
    assert_eq!(missing.kind(), &ErrorKind::Config);
    assert!(missing.to_string().contains("serviceAccountToken of the audience strongroom"), "{missing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_carries_a_session_for_each_pod() {
    let shop_pod = ShopPod::open().await;
    let other = shop_pod.shop.kubernetes.create_pod("pay", "api", "api-0");
    let driver = anonymous(&shop_pod.shop.world.server).await.unwrap();
    let log_in = async |pod: &Pod| {
        soon(|| driver.log_in_as_pod("main", SecretBytes::from(shop_pod.shop.token(pod)))).await
    };
    let (web, api) = (log_in(&shop_pod.pod).await, log_in(&other).await);
    assert_eq!(session_of(&web).await.0, "kubernetes/main/shop/web");
    assert_eq!(session_of(&api).await.0, "kubernetes/main/pay/api");
    assert_eq!(web.get(DB).await.unwrap().version, 1);
    assert!(matches!(api.get(DB).await.unwrap_err().kind(), ErrorKind::Denied { .. }));
    let nobody = driver.get(DB).await.unwrap_err();
    assert_eq!(nobody.kind(), &ErrorKind::Unauthenticated(Reason::TokenMissing));

    let stolen = shop_pod.shop.token(&shop_pod.pod);
    shop_pod.shop.kubernetes.delete_pod(&shop_pod.pod);
    let gone = tokio::time::timeout(DEADLINE, async {
        loop {
            match web.get(DB).await {
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => return error,
            }
        }
    });
    let gone = gone.await.unwrap();
    assert_eq!(gone.kind(), &ErrorKind::Unauthenticated(Reason::PodGone), "{gone}");
    let again = driver.log_in_as_pod("main", SecretBytes::from(stolen)).await.err().unwrap();
    assert!(matches!(again.kind(), ErrorKind::Unauthenticated(_)), "{again}");
    assert_eq!(session_of(&api).await.0, "kubernetes/main/pay/api", "the others live on");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_stream_tells_of_all_secrets_of_a_pod() {
    let shop_pod = ShopPod::open().await;
    let (client, root) = (shop_pod.client().await, shop_pod.shop.world.root().await.unwrap());
    let paths = [DB, "secret/apps/shop/stripe"];
    let mut changes = client.watch(paths);
    let mut next = async || tokio::time::timeout(DEADLINE, changes.next()).await.unwrap().unwrap();
    assert_eq!(next().await.unwrap().kind, ChangeKind::Started);
    for path in [paths[1], "secret/apps/shop/other", paths[0]] {
        root.put(path).value("k", SecretBytes::from(b"v".as_slice())).send().await.unwrap();
    }
    let told = [next().await.unwrap(), next().await.unwrap()].map(|change| (change.path, change.version));
    assert_eq!(told, [(paths[1].to_owned(), 1), (paths[0].to_owned(), 2)]);

    // A watch does not outlive its pod, and says so.
    shop_pod.shop.kubernetes.delete_pod(&shop_pod.pod);
    let ended = next().await.unwrap_err();
    assert_eq!(ended.kind(), &ErrorKind::Unauthenticated(Reason::PodGone), "{ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_logs_in_as_a_pod() {
    let shop_pod = ShopPod::open().await;
    shop_pod.client().await;
    let cli = Cli::new(&shop_pod.shop.world.home.path().join("pod"), &shop_pod.shop.world.server).unwrap();
    let file = shop_pod.token_file.display().to_string();
    tokio::task::block_in_place(|| {
        let said = cli.ok(&["login", "--kubernetes", "--token-file", &file], b"").unwrap();
        assert!(said.contains("logged in as kubernetes/main/shop/web"), "{said}");
        assert_eq!(cli.ok(&["get", DB, "--key", "password"], b"").unwrap(), "one");
        cli.ok(&["logout"], b"").unwrap();

        let output = cli.run(&["login", "--kubernetes"], b"").unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("/var/run/secrets/strongroom/token") && said.contains("audience"), "{said}");
        assert_eq!(cli.run(&["login"], b"").unwrap().status.code(), Some(2));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_follows_its_secret_and_ends_when_told() {
    let shop_pod = ShopPod::open().await;
    shop_pod.client().await;
    let mut child = example(&shop_pod.shop.world, &shop_pod.token_file);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut next = || tokio::task::block_in_place(|| lines.next().unwrap());
    assert_eq!(next(), "secret/apps/shop/db version 1: password 3 bytes, user 4 bytes");
    shop_pod.shop.put("rotated").await.unwrap();
    assert_eq!(next(), "secret/apps/shop/db version 2: password 7 bytes, user 4 bytes");

    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = tokio::task::block_in_place(|| child.wait().unwrap());
    assert!(status.success(), "{status}");
}

fn example(world: &World, token_file: &Path) -> std::process::Child {
    Command::new(binary("examples/pod_app").unwrap())
        .env("STRONGROOM_ADDR", &world.server.url)
        .env("STRONGROOM_CACERT", world.server.ca())
        .env("TOKEN_FILE", token_file)
        .env("SECRET_PATH", DB)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}
