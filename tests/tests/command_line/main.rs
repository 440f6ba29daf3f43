//! What all commands have in common: JSON and YAML for programs (`every.rs`), one table of exit codes, a question before what
//! cannot be undone, and one place that decides which token goes where.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends at the first surprise"
)]

mod every;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;
use strongroom_tests::{
    cli::Cli,
    server::{Options, Server, binary},
    wait,
};

const PASSWORD: &[u8] = b"correct horse battery staple\n";
const SECRET: &str = "secret/apps/db";
const POLICY: &str = "{kind: Role, name: r, rules: [{paths: [secret/x], verbs: [read]}]}\n";
struct House {
    root: Cli,
    alice: Cli,
    public_key: String,
    home: tempfile::TempDir,
    server: Server,
}

impl House {
    /// With a key file, a root token and a user.
    fn open() -> Self {
        let home = tempfile::tempdir().unwrap();
        let server = Server::start(home.path(), &Options::default()).unwrap();
        let alice = Cli::new(&home.path().join("alice"), &server).unwrap();
        let made = json(&alice.run(&["init", "--file-seal", "-o", "json"], b"").unwrap());
        let public_key = made[0]["audit_public_key"].as_str().unwrap().to_owned();
        let token = home.path().join("root-token");
        fs::write(&token, made[0]["root_token"].as_str().unwrap()).unwrap();
        let root = alice.with_token(&token);
        root.ok(&["user", "put", "alice", "--group", "team", "--password-file", "-"], PASSWORD).unwrap();
        Self { root, alice, public_key, home, server }
    }

    /// An editor that is a line of a shell.
    fn editor(&self, line: &str) -> String {
        format!("sh {}", self.file("editor", line))
    }

    fn file(&self, name: &str, content: &str) -> String {
        let path = self.home.path().join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    }
}

/// All values on standard output.
fn json(output: &Output) -> Vec<Value> {
    let values: Result<Vec<Value>, _> =
        serde_json::Deserializer::from_slice(&output.stdout).into_iter().collect();
    values.unwrap_or_else(|error| refuse(output, &error))
}

fn refuse<T>(output: &Output, error: &dyn std::fmt::Display) -> T {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    panic!("{error}: {out:?} {err:?}")
}

#[test]
fn failures_have_the_codes_of_the_help() {
    let house = House::open();
    house.root.ok(&["put", SECRET, "k=-"], b"one").unwrap();
    house.root.ok(&["apply", "-f", &house.file("policy.yaml", POLICY), "--yes"], b"").unwrap();
    for (arguments, code, word) in [
        (&["can-i", "raed", SECRET][..], 2, "expected one of"),
        (&["get", SECRET, "-k", "nope"], 4, "its keys are: k"),
        (&["get", "secret/nothing", "-k", "k"], 4, "not found"),
        (&["get", "secret/a b", "-k", "k"], 2, "path"),
        (&["--profile", "wrok", "whoami"], 2, "there is no profile"),
        // Nobody can be asked.
        (&["seal"], 2, "--yes"),
        (&["user", "delete", "alice"], 2, "--yes"),
        (&["token", "revoke", "--principal", "userpass/alice"], 2, "--yes"),
        (&["apply", "--remove", "Role/r"], 2, "--yes"),
        (&["destroy", SECRET, "--all"], 2, "--yes"),
        (&["put", SECRET, "k=-", "--expected-version", "0"], 1, "history"),
        (&["put", SECRET, "@values.json"], 2, "--json @values.json"),
        (&["put", SECRET, "k=@/dev/null"], 2, "the value of \"k\" is empty"),
        (&["put", SECRET, "--json", "@/dev/null"], 2, "/dev/null is empty"),
        (&["import", SECRET, "-", "--from", "kubernetes"], 2, "standard input, line 1: this is no object"),
        (&["whoami", "-o", "env"], 2, "only for get"),
        (&["--address", "https://127.0.0.1:7420//", "whoami"], 2, "something after the port"),
        (&["--address", "https://127.0.0.1:7420/v1", "status"], 2, "something after the port"),
    ] {
        let output = house.root.run(arguments, b"x").unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "strongroom {}: {said}", arguments.join(" "));
        assert!(said.contains(word), "strongroom {}: {said}", arguments.join(" "));
    }
    assert_eq!(house.root.ok(&["get", SECRET, "-k", "k", "--out-file", "-"], b"").unwrap(), "one");
    house.root.ok(&["get", SECRET, "-k", "k", "--out-file", "/dev/null"], b"").unwrap();
    assert!(!Path::new("/dev/null").is_file());
}

#[test]
fn a_token_goes_only_to_the_server_that_it_is_from() {
    let house = House::open();
    house.alice.ok(&["login", "-u", "alice", "--password-file", "-"], PASSWORD).unwrap();
    let place = house.home.path().join("other");
    fs::create_dir_all(&place).unwrap();
    let other = Server::start(&place, &Options::default()).unwrap();
    let ca = other.ca().display().to_string();
    let output = house.alice.run(&["--address", &other.url, "--ca", &ca, "whoami"], b"").unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains(&house.server.url) && said.contains("not sent elsewhere"), "{said}");
    house.alice.ok(&["whoami"], b"").unwrap();
}

/// What a value looks like, its type and its quotes in a file, never changes it.
#[test]
fn values_go_in_and_out_byte_for_byte() {
    let house = House::open();
    let root = &house.root;
    let value = |path: &str, key: &str| root.ok(&["get", path, "-k", key], b"").unwrap();

    let text = br#"{"big": 12345678901234567890, "exact": 1.10, "on": true, "gone": "x", "deep": {"a": [1.0, "b c"]}}"#;
    let refused = root.run(&["put", SECRET, "--json", "-"], text).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        refused.status.code() == Some(2) && said.contains("standard input, line 1: the key \"deep\""),
        "{said}"
    );
    root.ok(&["put", SECRET, "--json", "-", "--nested-as-json"], text).unwrap();
    assert_eq!(value(SECRET, "big"), "12345678901234567890");
    assert_eq!(value(SECRET, "exact"), "1.10");
    assert_eq!(value(SECRET, "deep"), r#"{"a":[1.0,"b c"]}"#);
    root.ok(&["patch", SECRET, "--json", "-"], br#"{"gone": null, "on": false}"#).unwrap();
    assert_eq!(value(SECRET, "on"), "false");
    assert_eq!(root.run(&["get", SECRET, "-k", "gone"], b"").unwrap().status.code(), Some(4));
    let refused = root.run(&["put", SECRET, "--json", "-"], br#"{"a": null}"#).unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("the key \"a\" is null"));

    let (one, two) = ("secret/apps/one", "secret/apps/two");
    root.ok(&["import", one, "-", "--from", "env"], b"export PEM=\"a\nb's\" # x\nPRICE='$5'\nEMPTY=\n")
        .unwrap();
    assert_eq!((value(one, "PEM"), value(one, "EMPTY")), ("a\nb's".into(), String::new()));
    let env = root.ok(&["get", one, "-o", "env"], b"").unwrap();
    root.ok(&["import", two, "-", "--from", "env"], env.as_bytes()).unwrap();
    assert_eq!(env, root.ok(&["get", two, "-o", "env"], b"").unwrap());
    let lines = root.ok(&["get", one, "-o", "shell"], b"").unwrap();
    let script = format!("{lines}printf '%s|%s' \"$PEM\" \"$PRICE\"");
    let shell = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&shell.stdout), "a\nb's|$5");
    let docker = root.run(&["get", one, "-o", "docker"], b"").unwrap();
    assert!(String::from_utf8_lossy(&docker.stderr).contains("the key \"PEM\" has a line break"));

    let manifest = b"kind: Secret\nmetadata: {name: db}\ndata: {raw: /wA=}\n---\nkind: Secret\nmetadata: {name: api}\nstringData: {key: v}\n";
    root.ok(&["import", "secret/shop", "-", "--from", "kubernetes"], manifest).unwrap();
    assert_eq!(root.run(&["get", "secret/shop/db", "-k", "raw"], b"").unwrap().stdout, [255, 0]);
    assert_eq!(value("secret/shop/api", "key"), "v");
    root.ok(&["import", "secret/yaml", "-", "--from", "yaml"], b"pem: |\n  a\n").unwrap();
    assert_eq!(value("secret/yaml", "pem"), "a\n");
}

#[test]
fn an_editor_changes_a_secret_and_loses_nothing() {
    let house = House::open();
    house.root.ok(&["put", SECRET, "a=-"], b"one").unwrap();
    let with_editor = |line: &str| house.root.with_variable("VISUAL", &house.editor(line));
    let value = |key: &str| house.root.ok(&["get", SECRET, "-k", key], b"").unwrap();
    let kept = |said: &str| {
        said.split_once("what you wrote is in ").unwrap().1.split_once(',').unwrap().0.to_owned()
    };

    with_editor("test $(stat -c %a \"$1\") = 600 && echo 'b: two' >> \"$1\"")
        .ok(&["edit", SECRET], b"")
        .unwrap();
    assert_eq!((value("a"), value("b")), ("one".into(), "two".into()));
    with_editor("echo 'n: \"1\"' > \"$1\"").ok(&["edit", "secret/apps/new"], b"").unwrap();
    assert_eq!(house.root.ok(&["get", "secret/apps/new", "-k", "n"], b"").unwrap(), "1");

    // Somebody else is faster.
    let program = binary("strongroom").unwrap();
    let line = format!("echo 'a: mine' > \"$1\"; printf theirs | {} put {SECRET} a=- >&2", program.display());
    let output = with_editor(&line).run(&["edit", SECRET], b"").unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(value("a"), "theirs");
    let file = kept(&said);
    assert_eq!(fs::read_to_string(&file).unwrap(), "a: mine\n");
    fs::remove_dir_all(Path::new(&file).parent().unwrap()).unwrap();

    let output = with_editor("echo 'pin: 4217' > \"$1\"").run(&["edit", SECRET], b"").unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("the key \"pin\" is a number"), "{said}");
    fs::remove_dir_all(Path::new(&kept(&said)).parent().unwrap()).unwrap();
}

#[test]
fn a_program_gets_values_and_keeps_its_exit_code() {
    let house = House::open();
    house.root.ok(&["put", SECRET, "--json", "-"], br#"{"user": "shop", "pin": 42}"#).unwrap();
    let run = |words: &[&str]| house.root.run(&[&["run", SECRET], words].concat(), b"").unwrap();
    let output = run(&["--prefix", "DB_", "--", "sh", "-c", "printf '%s %s' $DB_user $DB_pin; exit 7"]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(7), &b"shop 42"[..]));
    assert_eq!(run(&["--", "/nonexistent/program"]).status.code(), Some(1));
    for key in ["a-b", "PATH", "LD_PRELOAD"] {
        house.root.ok(&["put", SECRET, &format!("{key}=-")], b"x").unwrap();
        let output = run(&["--", "true"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(key), "{said}");
    }
}

#[test]
fn differences_and_trees_show_no_values() {
    let house = House::open();
    house.root.ok(&["put", SECRET, "a=-"], b"one").unwrap();
    house.root.ok(&["put", SECRET, "b=-"], b"two").unwrap();
    let quiet = house.root.ok(&["diff", SECRET], b"").unwrap();
    let open = house.root.ok(&["diff", SECRET, "--versions", "1", "2", "--show"], b"").unwrap();
    assert!(quiet.contains("removed") && quiet.contains("added") && !quiet.contains("one"), "{quiet}");
    assert!(open.contains("one") && open.contains("two"), "{open}");
    assert_eq!(house.root.ok(&["tree"], b"").unwrap(), "secret\n└── apps/\n    └── db\n");
    assert_eq!(house.root.ok(&["ls", "secret"], b"").unwrap(), "apps/\n");
    let pages = house.home.path().join("man");
    house.root.ok(&["man", "--out-dir", pages.to_str().unwrap()], b"").unwrap();
    assert!(pages.join("strongroom-put.1").exists());
}

/// Whoever knew the old password is out; who changed it goes on; and no record has either of the two.
#[test]
fn a_user_changes_their_own_password() {
    let house = House::open();
    let (old, new) =
        (house.file("old", "correct horse battery staple"), house.file("new", "canary staple battery"));
    let log_in =
        |cli: &Cli, file: &str| cli.run(&["login", "-u", "alice", "--password-file", file], b"").unwrap();
    let elsewhere = Cli::new(&house.home.path().join("elsewhere"), &house.server).unwrap();
    for cli in [&house.alice, &elsewhere] {
        assert!(log_in(cli, &old).status.success());
    }
    let passwd = |cli: &Cli, current: &str| {
        let arguments = ["user", "passwd", "--current-password-file", current, "--new-password-file", &new];
        let output = cli.run(&arguments, b"").unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = passwd(&house.root, &old);
    assert!(code == 2 && said.contains("root, who has no password"), "{said}");
    let (code, said) = passwd(&house.alice, &new);
    assert!(code == 3 && said.contains("not your current password"), "{said}");
    let (code, said) = passwd(&house.alice, &old);
    assert!(code == 0, "{said}");

    house.alice.ok(&["whoami"], b"").unwrap();
    let output = elsewhere.run(&["whoami"], b"").unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(3) && said.contains("revoked"), "{said}");
    assert_eq!(log_in(&elsewhere, &old).status.code(), Some(3));
    assert!(log_in(&elsewhere, &new).status.success());

    let session = json(&house.alice.run(&["whoami", "-o", "json"], b"").unwrap())[0]["session"].to_string();
    let arguments = ["audit", "query", "--operation", "Auth.ChangePassword", "-o", "json"];
    let records = json(&house.root.run(&arguments, b"").unwrap());
    let texts: Vec<String> = records.iter().map(ToString::to_string).collect();
    let all = texts.join("\n");
    assert!(all.contains("userpass/alice") && all.contains("a new password"), "{all}");
    assert!(all.contains(session.trim_matches('"')), "the session that began: {all}");
    for password in ["correct horse battery staple", "canary staple battery"] {
        assert!(!all.contains(password) && !house.server.log().contains(password));
    }
}

/// Everything is given, so no file of the user is needed.
#[test]
fn without_a_home_it_works_with_what_is_given() {
    let house = House::open();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(binary("strongroom").unwrap());
        command.env_clear().env("HOME", "/nonexistent").args(arguments);
        command.env("STRONGROOM_ADDR", &house.server.url).env("STRONGROOM_CACERT", house.server.ca());
        command.env("STRONGROOM_TOKEN_FILE", house.home.path().join("root-token"));
        // Set and empty is not set.
        command.env("STRONGROOM_TOKEN", "").env("STRONGROOM_PROFILE", "").env("STRONGROOM_SERVER_NAME", "");
        command.output().unwrap()
    };
    let output = run(&["whoami"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Two imports at once of what is not there yet: neither writes over the other.
#[test]
fn an_import_that_expects_nothing_writes_over_nothing() {
    let house = House::open();
    let import = |value: &str| {
        let arguments = ["import", "secret/once", "-", "--from", "env", "--expected-version", "0"];
        let output = house.root.run(&arguments, format!("K={value}\n").as_bytes()).unwrap();
        output.status.code().unwrap()
    };
    let codes = std::thread::scope(|scope| {
        let imports = ["a", "b", "c", "d"].map(|value| scope.spawn(move || (import(value), value)));
        imports.map(|import| import.join().unwrap())
    });
    let done: Vec<_> = codes.iter().filter(|(code, _)| *code == 0).map(|(_, value)| *value).collect();
    assert_eq!(done.len(), 1, "{codes:?}");
    assert!(codes.iter().all(|(code, _)| matches!(code, 0 | 1)), "{codes:?}");
    assert_eq!(house.root.ok(&["get", "secret/once", "-k", "K"], b"").unwrap(), done[0]);

    let secret =
        |name: &str| format!("kind: Secret\nmetadata: {{name: {name}}}\nstringData: {{k: v}}\n---\n");
    let (first, both) = (secret("one"), secret("zero") + &secret("one") + &secret("two"));
    let import = |manifest: &str| {
        let arguments = ["import", "secret/many", "-", "--from", "kubernetes", "--expected-version", "0"];
        house.root.run(&arguments, manifest.as_bytes()).unwrap()
    };
    assert!(import(&first).status.success());
    let stopped = import(&both);
    let said = String::from_utf8_lossy(&stopped.stderr);
    assert_eq!(stopped.status.code(), Some(1), "{said}");
    assert!(said.contains("1 of 3 secrets are written; secret/many/one is the first that is not"), "{said}");
}

/// What is live, deleted and expired is seen; what one may not read is not.
#[test]
fn a_long_list_says_what_can_be_read() {
    let house = House::open();
    let root = &house.root;
    for name in ["live", "deleted", "expired", "hidden"] {
        root.ok(&["put", &format!("secret/x/{name}"), "k=-"], b"v").unwrap();
    }
    root.ok(&["put", "secret/x/below/it", "k=-"], b"v").unwrap();
    root.ok(&["rm", "secret/x/deleted"], b"").unwrap();
    root.ok(&["put", "secret/x/expired", "k=-", "--ttl", "1s"], b"v").unwrap();
    let policy = "{kind: Role, name: r, rules: [{paths: [\"secret/**\"], verbs: [list]}, \
                  {paths: [secret/x/live, secret/x/deleted, secret/x/expired], verbs: [read]}]}\n---\n\
                  {kind: Binding, name: b, role: r, subjects: [{user: {method: userpass, name: alice}}]}\n";
    root.ok(&["apply", "-f", &house.file("policy.yaml", policy), "--yes"], b"").unwrap();
    house.alice.ok(&["login", "-u", "alice", "--password-file", "-"], PASSWORD).unwrap();
    let state = |name: &str, of: &str| {
        let arguments = ["list", "-l", of, "-o", "json"];
        let all = json(&house.alice.run(&arguments, b"").unwrap())[0].clone();
        let entry = all.as_array().unwrap().iter().find(|entry| entry["name"] == name).cloned();
        let latest = entry.unwrap_or_else(|| panic!("no {name} in {all}"))["latest"].clone();
        latest.get("state").and_then(Value::as_str).map(str::to_owned)
    };
    wait::until("the version expires", || state("expired", "secret/x").as_deref() == Some("expired"))
        .unwrap();
    assert_eq!(state("live", "secret/x").as_deref(), Some("readable"));
    assert_eq!(state("deleted", "secret/x").as_deref(), Some("deleted"));
    assert_eq!((state("hidden", "secret/x"), state("below/", "secret/x")), (None, None));

    let table = house.alice.ok(&["list", "-l", "-r", "secret/x/"], b"").unwrap();
    let line = |name: &str| {
        let line = table.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(line("secret/x/hidden")[1..], ["-", "-", "-", "-"]);
    assert_eq!(
        (line("secret/x/live")[2].as_str(), line("secret/x/deleted")[2].as_str()),
        ("readable", "deleted")
    );
    let tree = house.alice.ok(&["tree", "-l", "secret/x/"], b"").unwrap();
    assert!(tree.starts_with("secret/x\n├── below/\n│   └── it  -\n├── deleted  1  deleted 20"), "{tree}");
    assert!(tree.ends_with("├── hidden  -\n└── live  1  readable\n"), "{tree}");
}

/// The grammar prints its help and its mistakes by itself, before any option is known.
#[test]
fn colours_can_be_refused() {
    let house = House::open();
    let alice = &house.alice;
    let quiet = alice.with_variable("NO_COLOR", "1");
    for arguments in [&["--help"][..], &["gte"], &["put", "--no-such"]] {
        let coloured = alice.on_terminal(arguments).unwrap();
        assert!(coloured.contains('\x1b'), "{arguments:?}: {coloured:?}");
        for plain in [
            alice.on_terminal(&[&["--no-color"], arguments].concat()).unwrap(),
            quiet.on_terminal(arguments).unwrap(),
        ] {
            assert!(!plain.is_empty() && !plain.contains('\x1b'), "{arguments:?}: {plain:?}");
        }
    }
}

#[test]
fn names_of_users_have_one_spelling() {
    let house = House::open();
    let name = "alice+ops@example.com";
    house.root.ok(&["user", "put", name, "--password-file", "-"], PASSWORD).unwrap();
    let policy = format!(
        "{{kind: Role, name: home, rules: [{{paths: [\"secret/home/{{{{user}}}}/**\"], verbs: [\"*\"]}}]}}\n---\n\
         {{kind: Binding, name: home, role: home, subjects: [{{user: {{method: userpass, name: \"{name}\"}}}}]}}\n"
    );
    house.root.ok(&["apply", "-f", &house.file("home.yaml", &policy), "--yes"], b"").unwrap();
    house.alice.ok(&["login", "-u", name, "--password-file", "-"], PASSWORD).unwrap();
    house.alice.ok(&["put", &format!("secret/home/{name}/note"), "k=-"], b"v").unwrap();

    for arguments in [
        &["user", "put", "Alice", "--password-file", "-"][..],
        &["login", "-u", "Alice+Ops@example.com", "--password-file", "-"],
        &["user", "delete", "Alice", "--yes"],
        &["token", "revoke", "--principal", "userpass/Alice", "--yes"],
    ] {
        let output = house.root.run(arguments, PASSWORD).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains("small letters"), "{arguments:?}: {said}");
    }
    house.alice.ok(&["whoami"], b"").unwrap();
    house.root.ok(&["token", "revoke", "--principal", &format!("userpass/{name}"), "--yes"], b"").unwrap();
    assert_eq!(house.alice.run(&["whoami"], b"").unwrap().status.code(), Some(3));
}

#[test]
fn groups_stay_unless_somebody_changes_them() {
    let house = House::open();
    let groups = || {
        let users = json(&house.root.run(&["user", "list", "-o", "json"], b"").unwrap());
        users[0][0]["groups"].to_string()
    };
    let put = |arguments: &[&str]| {
        house.root.ok(&[&["user", "put", "alice"], arguments].concat(), PASSWORD).unwrap()
    };
    assert_eq!(groups(), "[\"team\"]");
    put(&["--keep-password"]);
    put(&["--password-file", "-"]);
    assert_eq!(groups(), "[\"team\"]");
    put(&["--keep-password", "--group", "other"]);
    assert_eq!(groups(), "[\"other\"]");
    put(&["--keep-password", "--no-groups"]);
    assert_eq!(groups(), "[]");
}
