//! What an answer tells follows the verbs held: each operation of kv is asked for by callers who hold one verb each, on pairs
//! of secrets that differ in everything but the number of their versions. Who may not read gets the same answer for both.

use std::collections::BTreeMap;

use super::{
    context::Origin,
    error::Error,
    handle,
    request::{Action, Answer, PolicyAction, Request, UserAction},
    tests::{House, anywhere},
    unauthenticated::{Login, login},
};
use crate::{
    auth::Credential,
    engines::{Operation as _, kv::Operation},
    model::{KeyName, Path, RequestId, SecretBytes, Verb},
};
use strongroom_proto::v1::login_request::{Credential as Shown, Userpass};

const PASSWORD: &str = "correct horse battery";
/// All but the one that may know.
const VERBS: [Verb; 7] =
    [Verb::List, Verb::Create, Verb::Update, Verb::Delete, Verb::Destroy, Verb::Use, Verb::Manage];

fn put(size: usize, expected_version: Option<u64>) -> Operation {
    let data = [(KeyName::parse("key").unwrap(), SecretBytes::new(vec![7; size]))].into();
    Operation::Put { data, expected_version, ttl: None, operation_id: None }
}

fn patch(expected_version: Option<u64>) -> Operation {
    let changes = [(KeyName::parse("key").unwrap(), Some(SecretBytes::new(vec![7; 3])))].into();
    Operation::Patch { changes, expected_version, ttl: None, operation_id: None }
}

fn custom(text: &str) -> Operation {
    let custom = Some(BTreeMap::from([("owner".to_owned(), text.to_owned())]));
    Operation::UpdateMetadata { custom, max_versions: None, cas_required: None }
}

/// Every operation there is, with every field that an answer could depend on.
fn operations() -> Vec<Operation> {
    let mut all = vec![
        Operation::GetMetadata,
        Operation::List { page_size: 1000, page_token: None },
        Operation::ListRecursive,
        Operation::Watch,
        Operation::Destroy { versions: Vec::new(), all: true },
        custom("anybody"),
        Operation::UpdateMetadata { custom: None, max_versions: Some(7), cas_required: Some(true) },
    ];
    for expected in [None, Some(0), Some(3), Some(999)] {
        all.extend([put(3, expected), patch(expected)]);
    }
    for versions in [vec![], vec![1], vec![2], vec![99]] {
        all.push(Operation::Get { version: versions.first().copied() });
        all.push(Operation::Delete { versions: versions.clone() });
        all.push(Operation::Undelete { versions: versions.clone() });
        all.push(Operation::Destroy { versions, all: false });
    }
    all
}

/// Does not compile until a new operation is in [`operations`], too.
fn name(operation: &Operation) -> &'static str {
    match operation {
        Operation::Put { .. } => "put",
        Operation::Patch { .. } => "patch",
        Operation::Get { .. } => "get",
        Operation::GetMetadata => "get-metadata",
        Operation::List { .. } => "list",
        Operation::ListRecursive => "list-recursive",
        Operation::Watch => "watch",
        Operation::Delete { .. } => "delete",
        Operation::Undelete { .. } => "undelete",
        Operation::Destroy { .. } => "destroy",
        Operation::UpdateMetadata { .. } => "update-metadata",
    }
}

struct Callers {
    house: House,
    root: SecretBytes,
    of_verb: BTreeMap<&'static str, SecretBytes>,
}

impl Callers {
    async fn new() -> Self {
        let (house, root) = House::open().await;
        let mut callers = Self { house, root, of_verb: BTreeMap::new() };
        let mut yaml = String::new();
        for verb in VERBS.map(Verb::as_str) {
            yaml += &format!(
                "---\n{{kind: Role, name: {verb}, rules: [{{paths: [secret/**], verbs: [{verb}]}}]}}\n---\n\
                 {{kind: Binding, name: {verb}, role: {verb}, subjects: [{{user: {{method: userpass, name: {verb}}}}}]}}\n"
            );
        }
        let apply = PolicyAction::Apply { yaml, remove: Vec::new(), dry_run: false, force: false };
        callers.ask(&callers.root, Action::Policy(apply)).await.unwrap();
        for verb in VERBS.map(Verb::as_str) {
            let password = Some(SecretBytes::from(PASSWORD.as_bytes()));
            let user = UserAction::Put { name: verb.into(), password, groups: Some(Vec::new()) };
            callers.ask(&callers.root, Action::User(user)).await.unwrap();
        }
        callers.house.later();
        for verb in VERBS.map(Verb::as_str) {
            let password = Some(SecretBytes::from(PASSWORD.as_bytes()).into());
            let shown = Shown::Userpass(Userpass { name: verb.into(), password });
            let login =
                Login { origin: origin(), slot: anywhere(), credential: Credential::read(Some(shown)) };
            let (token, _) = self::login(&callers.house.core, login).await.unwrap();
            callers.of_verb.insert(verb, token);
        }
        callers
    }

    async fn ask(&self, bearer: &SecretBytes, action: Action) -> Result<Answer, Error> {
        let bearer = Some(SecretBytes::from(bearer.expose()));
        handle(&self.house.core, Request { origin: origin(), slot: anywhere(), bearer, action: Ok(action) })
            .await
    }

    async fn on(&self, bearer: &SecretBytes, path: &str, operation: Operation) -> Result<Answer, Error> {
        let paths = vec![Path::parse(path).unwrap()];
        self.ask(bearer, Action::Engine { paths, operation: Box::new(operation) }).await
    }

    /// What somebody with that verb is told.
    async fn told(&self, verb: Verb, path: &str, operation: Operation) -> Vec<u8> {
        match self.on(&self.of_verb[verb.as_str()], path, operation).await {
            Ok(Answer::Reply(reply)) => {
                let mut bytes = Vec::new();
                reply.write(&mut bytes).unwrap();
                bytes
            }
            Ok(_) => b"a stream".to_vec(),
            Err(Error::Refused(refused)) => format!("refused: {}", refused.verb).into_bytes(),
            Err(error) => format!("{error} {:?} {:?}", error.reason(), error.metadata()).into_bytes(),
        }
    }

    /// Two secrets with three versions that have nothing else in common.
    async fn pair(&self, plain: &str, other: &str) {
        for _ in 0..3 {
            self.on(&self.root, plain, put(3, None)).await.unwrap();
        }
        self.on(&self.of_verb["create"], other, put(300, None)).await.unwrap();
        for size in [400, 3] {
            self.on(&self.of_verb["update"], other, put(size, None)).await.unwrap();
        }
        let settings = Operation::UpdateMetadata { custom: None, max_versions: Some(5), cas_required: None };
        for operation in [
            custom("the other's"),
            settings,
            Operation::Delete { versions: vec![1] },
            Operation::Destroy { versions: vec![2], all: false },
        ] {
            self.on(&self.root, other, operation).await.unwrap();
        }
    }
}

fn origin() -> Origin {
    Origin { id: RequestId([7; 16]), name: "Test.Request", peer: None }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn who_may_not_read_is_told_nothing_of_what_is_there() {
    let callers = Callers::new().await;
    let (mut asked, mut leaks) = (0, Vec::new());
    for verb in VERBS {
        for (at, operation) in operations().into_iter().enumerate() {
            let place = |which: &str| format!("secret/{which}/{verb}/{at}");
            let (plain, other) = (place("plain"), place("other"));
            let what = format!("{} {at} with {verb}", name(&operation));
            let held = operation.verbs().contains(&verb);
            if held {
                callers.pair(&plain, &other).await;
            }
            let again = || operations().into_iter().nth(at).unwrap();
            let told =
                [callers.told(verb, &plain, operation).await, callers.told(verb, &other, again()).await];
            let [one, two] = told.map(|bytes| text(&bytes).replace("other", "plain"));
            // Whether what is destroyed comes back, whoever asks for it must hear.
            let outcome = matches!(again(), Operation::Undelete { versions } if versions == [2]);
            if one != two && !(outcome && two.contains("NotFound")) {
                leaks.push(format!("{what}: {one:?} and {two:?}"));
            }
            asked += usize::from(held);
        }
    }
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
    assert!(asked > 25, "{asked}");
}

/// A write that says what it expects, and cannot happen, is no way to ask whether there is something.
#[tokio::test]
async fn an_expectation_that_cannot_hold_tells_nothing() {
    let callers = Callers::new().await;
    callers.pair("secret/there", "secret/two").await;
    for verb in [Verb::Create, Verb::Update] {
        for expected in [3, 999] {
            let [there, absent] = ["secret/there", "secret/none"].map(|path| {
                // Three would hold for who may update: then it is no question but a write.
                let expected = if verb == Verb::Update { 999 } else { expected };
                (path, put(3, Some(expected)))
            });
            let there = text(&callers.told(verb, there.0, there.1).await).replace("there", "none");
            assert_eq!(there, text(&callers.told(verb, absent.0, absent.1).await), "{verb} {expected}");
        }
    }
}
