//! Forged service-account tokens, and forged answers of an API server, at the real server: each has to be refused.
//!
//! The rows are made by hand from what has gone wrong elsewhere (each group names it) and are the same in every run; the
//! flipped bits are not, they come from the seed.

mod reviews;
mod tokens;

use std::{io, path::Path, time::Duration};

use serde_json::{Value, json};
use tonic::{Code, transport::Channel};

use crate::{
    bench::subject::{Subject, channel},
    fake_kubernetes::{FakeKubernetes, Mood, Pod, SigningKey},
    faults::dice::Dice,
    figures::Figure,
    server::Options,
    wait::until_async,
    world::log_in_as_pod,
};

/// What tokens for the server under test are made for.
const AUDIENCE: &str = "strongroom";
const HOUR: Duration = Duration::from_secs(3600);

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
        let mut rows = tokens::all(&kubernetes, &cast, &mut Dice::new(seed))?;
        if name == "ec" {
            rows.extend(tokens::signatures_of_ec(&kubernetes, &cast));
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
    let rows = reviews::all(&kubernetes, &cast);
    tries += rows.len();
    let_in.extend(scene.play(&rows).await?);
    kubernetes.lie(Some(reviews::truth(&cast)));
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
        until_async("the server sees the account go", async || scene.code(&last).await != Some(Code::Ok))
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
        until_async("a good token is let in", async || self.code(token).await == Some(Code::Ok)).await
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
                    if row.lie.as_ref().is_some_and(reviews::is_no_answer)
                        && status.code() == Code::Unavailable => {}
                Err(status) => wrong.push(format!("{}: {status}", row.what)),
                Ok(_) => wrong.push(row.what.clone()),
            }
        }
        self.kubernetes.lie(None);
        self.kubernetes.set_mood(Mood::default());
        Ok(wrong)
    }
}
