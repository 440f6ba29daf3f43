//! Volumes as people write them: what they become, and what is said about each mistake.

use std::collections::BTreeMap;

use proptest::prelude::*;
use strongroom_proto::SecretBytes;

use super::*;

fn pod() -> PodRef {
    PodRef { namespace: "payments".into(), pod: "web-0".into(), service_account: "web".into() }
}

fn attributes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn volume(secrets: &str) -> Volume {
    Volume::parse(&attributes(&[("secrets", secrets)]), &pod()).unwrap()
}

fn problems(pairs: &[(&str, &str)]) -> Vec<String> {
    let problems = Volume::parse(&attributes(pairs), &pod()).unwrap_err();
    problems.iter().map(ToString::to_string).collect()
}

/// The secrets of these paths, at every version that is asked for.
fn fetched(volume: &Volume, secrets: &[(&str, &[(&str, &str)])]) -> Fetched {
    let mut fetched = Fetched::default();
    for source in volume.sources() {
        if let Some((_, values)) = secrets.iter().find(|(path, _)| *path == source.path()) {
            let value =
                |(key, value): &(&str, &str)| ((*key).to_owned(), SecretBytes::from(value.as_bytes()));
            fetched.insert(source.clone(), values.iter().map(value).collect());
        }
    }
    fetched
}

/// "mode name=content" of each file.
fn rendered(volume: &Volume, secrets: &[(&str, &[(&str, &str)])]) -> Result<Vec<String>, RenderError> {
    let shown = |file: &File| {
        format!("{} {}={}", file.mode, file.name, String::from_utf8_lossy(file.content.expose()))
    };
    Ok(volume.render(&fetched(volume, secrets))?.iter().map(shown).collect())
}

const DB: (&str, &[(&str, &str)]) = ("secret/payments/db", &[("password", "hunter2"), ("user", "shop")]);

#[test]
fn filters_write_values_as_their_place_needs_them() {
    let odd: (&str, &[(&str, &str)]) = ("secret/a", &[("p", "p\"@: \n"), ("u", "a b")]);
    let text = r#"
- path: secret/a
  template:
    a.json: '{"p":{{p | json}}}'
    a.url: 'postgres://{{ u | urlencode }}:{{p|trim|urlencode}}@db'
"#;
    let files = rendered(&volume(text), &[odd]).unwrap();
    assert_eq!(files, ["0400 a.json={\"p\":\"p\\\"@: \\n\"}", "0400 a.url=postgres://a%20b:p%22%40%3A@db"]);
    let zero = rendered(
        &volume("[{path: secret/a, template: {f: '{{p | shell}}'}}]"),
        &[("secret/a", &[("p", "\0")])],
    );
    assert_eq!(
        zero.unwrap_err().to_string(),
        "the filter shell cannot write the key \"p\" of secret/a: it has a zero byte, or is too long"
    );
    assert!(
        problems(&[("secrets", "[{path: secret/a, template: {f: '{{p | yml}}'}}]")])[0]
            .contains("filter \"yml\"")
    );
}

#[test]
fn every_layout_makes_its_files() {
    let text = r#"
- path: secret/{{namespace}}/db
  dir: db
- path: secret/stripe
  version: 3
  keys: {api_key: stripe/api-key}
  mode: "0440"
- path: secret/payments/db
  template: {database.url: "postgres://{{user}}:{{password}}@db"}
- from: {db: secret/payments/db, stripe: secret/stripe2}
  dir: conf
  template: {app.env: "DB={{db.password}}\nSTRIPE={{stripe.api.key}}\n"}
- path: secret/cert
  keys: {p12: cert.p12}
  decode: base64
"#;
    let volume = volume(text);
    let secrets: &[(&str, &[(&str, &str)])] = &[
        DB,
        ("secret/stripe", &[("api_key", "sk_1"), ("other", "x")]),
        ("secret/stripe2", &[("api.key", "sk_2")]),
        ("secret/cert", &[("p12", "aGVs\nbG8=\n")]),
    ];
    assert_eq!(
        rendered(&volume, secrets).unwrap(),
        [
            "0400 db/password=hunter2",
            "0400 db/user=shop",
            "0440 stripe/api-key=sk_1",
            "0400 database.url=postgres://shop:hunter2@db",
            "0400 conf/app.env=DB=hunter2\nSTRIPE=sk_2\n",
            "0400 cert.p12=hello",
        ]
    );
    let paths: Vec<_> = volume.paths().into_iter().collect();
    assert_eq!(paths, ["secret/cert", "secret/payments/db", "secret/stripe", "secret/stripe2"]);
    let pinned: Vec<_> = volume.sources().into_iter().filter_map(Source::version).collect();
    assert_eq!(pinned, [3]);
}

#[test]
fn a_group_may_read_by_default() {
    let secrets = "[{path: secret/payments/db, keys: {user: u}}]";
    let with = |pairs: &[(&str, &str)]| {
        let all: Vec<_> = pairs.iter().copied().chain([("secrets", secrets)]).collect();
        Volume::parse(&attributes(&all), &pod()).unwrap()
    };
    let mode = |volume: Volume| rendered(&volume, &[DB]).unwrap().remove(0);
    assert_eq!(mode(with(&[])), "0400 u=shop");
    assert_eq!(mode(with(&[("gid", "2000")])), "0440 u=shop");
    assert_eq!(mode(with(&[]).or_group(3000)), "0440 u=shop");
    assert_eq!(mode(with(&[("mode", "0444")]).or_group(3000)), "0444 u=shop");
    let owned = with(&[("uid", "0"), ("gid", "2000")]).or_group(3000);
    assert_eq!((owned.uid, owned.gid), (Some(0), Some(2000)));
}

#[test]
fn what_the_kubelet_adds_is_not_the_authors() {
    let all = attributes(&[
        ("secrets", "[{path: secret/a}]"),
        ("csi.storage.k8s.io/pod.name", "web-0"),
        ("csi.storage.k8s.io/serviceAccount.tokens", "{}"),
    ]);
    assert_eq!(Volume::parse(&all, &pod()).unwrap().entries.len(), 1);
}

#[test]
fn what_is_optional_may_be_missing() {
    let volume = volume(
        r#"
- {path: secret/none, optional: true}
- {path: secret/payments/db, optional: true, keys: {user: u, port: p}}
- {path: secret/payments/db, optional: true, template: {a: "{{user}}", b: "{{port}}"}}
"#,
    );
    assert_eq!(rendered(&volume, &[DB]).unwrap(), ["0400 u=shop", "0400 a=shop"]);
    assert!(rendered(&volume, &[]).unwrap().is_empty());
}

#[test]
fn what_is_missing_is_named() {
    let error = |text: &str, secrets: &[(&str, &[(&str, &str)])]| {
        rendered(&volume(text), secrets).unwrap_err().to_string()
    };
    assert_eq!(error("[{path: secret/payments/db}]", &[]), "there is no secret secret/payments/db");
    assert_eq!(
        error("[{path: secret/payments/db, version: 9}]", &[]),
        "there is no version 9 of the secret secret/payments/db"
    );
    let has = "the secret secret/payments/db has no key \"port\"; it has password, user";
    assert_eq!(error("[{path: secret/payments/db, keys: {port: p}}]", &[DB]), has);
    assert_eq!(error(r#"[{path: secret/payments/db, template: {u: "{{port}}"}}]"#, &[DB]), has);
    assert_eq!(
        error("[{path: secret/payments/db, decode: base64, keys: {password: p}}]", &[DB]),
        "the key \"password\" of secret/payments/db is not base64"
    );
    assert_eq!(
        error("[{path: secret/payments/db}, {path: secret/x}]", &[DB, ("secret/x", &[("user", "1")])]),
        "secrets[1] makes the file user, which secrets[0] makes as well"
    );
    let deep = "[{path: secret/payments/db, dir: a/b/c/d/e/f/g/h}]";
    assert!(error(deep, &[DB]).contains("at most 8 are allowed"));
}

#[test]
fn what_is_too_large_is_refused() {
    let big = "x".repeat(FILE_BYTES);
    let one: &[(&str, &[(&str, &str)])] = &[("secret/a", &[("k", &big)])];
    assert_eq!(rendered(&volume("[{path: secret/a}]"), one).unwrap().len(), 1);
    let doubled = rendered(&volume(r#"[{path: secret/a, template: {f: "{{k}}{{k}}"}}]"#), one);
    assert!(matches!(doubled, Err(RenderError::FileTooLarge { bytes, .. }) if bytes == 2 * FILE_BYTES));
    let five = "[{path: secret/a, dir: a}, {path: secret/a, dir: b}, {path: secret/a, dir: c}, \
                {path: secret/a, dir: d}, {path: secret/a, dir: e}]";
    assert_eq!(rendered(&volume(five), one), Err(RenderError::VolumeTooLarge));

    let names: Vec<_> = (0..=FILES).map(|at| at.to_string()).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), "v")).collect();
    assert_eq!(
        rendered(&volume("[{path: secret/a}]"), &[("secret/a", &many)]),
        Err(RenderError::TooManyFiles)
    );
}

#[test]
fn every_mistake_is_told_at_once_with_its_field() {
    let secrets = r#"
- path: secret/a
  keys: {api_key: ../out, "a b": ok, n: 1}
  mode: 0440
- path: /secret//b
  decode: hex
  optional: "yes"
  colour: red
- dir: x
- path: secret/c
  from: {a: secret/c}
  template: {t: "{{a.k}}"}
- from: {d: secret}
- path: secret/e
  version: 0
- from: {"f.g": secret/f}
  template: {t2: "{{h.i}}", u: "{{"}
"#;
    let told =
        problems(&[("secrets", secrets), ("mode", "0666"), ("uid", "-1"), ("gid", "4294967295"), ("x", "")]);
    let expected = [
        r"x is not known; expected secrets, mode, uid, gid",
        r#"mode is "0666"; a secret that everybody can write is not allowed"#,
        r#"uid is "-1"; expected a number, such as "1000""#,
        r#"gid is "4294967295"; expected a number, such as "1000""#,
        r"secrets[0].mode is the number 440; expected text: put it in quotes",
        r#"secrets[0].keys.api_key is "../out"; a part '.' or one that starts with '..' is not allowed"#,
        r"secrets[0].keys.a b is not the key of a secret; expected A-Z a-z 0-9 . _ -",
        r"secrets[0].keys.n is the number 1; expected text: put it in quotes",
        r"secrets[1].colour is not known; expected one of path, issue, from, version, dir, keys, template, mode, optional, decode",
        r"secrets[1].optional is text; expected true or false",
        r"secrets[1].decode is not known; expected base64",
        r#"secrets[1].path is "/secret//b"; parts that are empty, '.' or '..' are not allowed"#,
        r"secrets[2] has none of path, issue and from; expected path: secret/... or issue: database/...",
        r"secrets[3] has both path and from; expected one of them",
        r"secrets[4] has from without template; use path, or add a template",
        r#"secrets[4].from.d is "secret"; expected mount/name with 2 to 16 parts"#,
        r"secrets[5].version is the number 0; expected a version: 1 or more",
        r"secrets[6].from.f.g is not an alias; expected A-Z a-z 0-9 _ -",
        r#"secrets[6].template.t2 has the placeholder "h.i", but `from` has no such alias"#,
        r"secrets[6].template.u has a {{ without }}",
    ];
    assert_eq!(told, expected);
}

#[test]
fn one_mistake_one_sentence() {
    let one = |secrets: &str| {
        let told = problems(&[("secrets", secrets)]);
        assert_eq!(told.len(), 1, "{secrets}: {told:?}");
        told.into_iter().next().unwrap()
    };
    assert_eq!(problems(&[]), ["secrets is missing; expected a list of secrets in YAML"]);
    let many = "- path: secret/a\n".repeat(ENTRIES + 1);
    let files: String = (0..=FILES).map(|at| format!("k{at}: f{at}, ")).collect();
    for (secrets, part) in [
        ("", "secrets is empty; expected a list"),
        ("[]", "secrets is empty; expected at least one"),
        ("secret/a", "secrets is text; expected a list"),
        ("[a]", "secrets[0] is text; expected fields"),
        ("- {", "secrets is not YAML (line"),
        ("[{path: secret/a, path: secret/b}]", "appears twice"),
        ("[&a {path: secret/a}, *a]", "secrets is not YAML"),
        ("[{path: secret/a, keys: {}}]", "secrets[0].keys is empty"),
        (
            "[{path: secret/a, keys: {k: f}, template: {g: x}}]",
            "cannot be combined with keys; write two entries",
        ),
        ("[{path: secret/a, decode: base64, template: {g: x}}]", "cannot be combined with decode"),
        ("[{from: {a: secret/a}, version: 1, template: {g: x}}]", "cannot be combined with from"),
        ("[{path: secret/a, keys: {k: f, l: f}}]", "makes the file f, which secrets[0].keys.k makes as well"),
        ("[{path: secret/a, keys: {k: f/g, l: f}}]", "needs f as a file and as a folder"),
        ("[{path: secret/a, keys: {k: f}}, {path: secret/b, dir: f/g}]", "secrets[1].dir needs f as a file"),
        (&many, "secrets has 65 entries; at most 64 are allowed"),
        (&format!("[{{path: secret/a, keys: {{{files}}}}}]"), "secrets makes 257 files; at most 256"),
        (&"x".repeat(TEXT_BYTES + 1), "secrets has 65537 bytes; at most 65536"),
    ] {
        let told = one(secrets);
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn what_is_told_has_an_end() {
    let keys: String = (0..500).map(|at| format!("k{at}: ../{at}, ")).collect();
    let told = problems(&[("secrets", &format!("[{{path: secret/a, keys: {{{keys}}}}}]"))]);
    assert_eq!(told.len(), 100);
}

#[test]
fn no_value_stands_in_an_error() {
    let secret: &[(&str, &[(&str, &str)])] = &[("secret/a", &[("k", "hunter2!")])];
    for text in [
        "[{path: secret/a, decode: base64}]",
        "[{path: secret/a, keys: {x: f}}]",
        "[{path: secret/a}, {path: secret/a}]",
        "[{path: secret/a, dir: a/b/c/d/e/f/g/h}]",
    ] {
        let error = rendered(&volume(text), secret).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{text}");
    }
}

fn attribute_text() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("secret/a".to_owned()),
        Just("..".to_owned()),
        Just("a/b".to_owned()),
        "[a-z./{}\" ]{0,12}",
        any::<String>(),
    ];
    let field = (
        prop::sample::select(vec!["path", "from", "dir", "keys", "template", "mode", "optional", "decode"]),
        word.clone(),
        word,
        any::<bool>(),
    );
    prop::collection::vec(prop::collection::vec(field, 0..4), 0..4).prop_map(|entries| {
        let mut text = String::new();
        for fields in entries {
            text.push_str("- path: secret/a\n");
            for (name, one, other, nested) in fields {
                let line = if nested { format!("{{{one:?}: {other:?}}}") } else { format!("{one:?}") };
                text.push_str(&format!("  {name}: {line}\n"));
            }
        }
        text
    })
}

proptest! {
    #[test]
    fn parsing_any_text_ends(text in any::<String>()) {
        let _ = Volume::parse(&attributes(&[("secrets", &text), ("mode", &text), ("uid", &text)]), &pod());
    }

    #[test]
    fn a_name_stays_within(text in "[a-z./]{0,24}|.{0,16}") {
        if let Ok(name) = FileName::parse(&text) {
            let plain = |part: &std::path::Component<'_>| matches!(part, std::path::Component::Normal(_));
            prop_assert!(std::path::Path::new(name.as_str()).components().all(|part| plain(&part)));
            prop_assert!(name.segments().all(|part| !part.starts_with("..") && part.len() <= 253));
        }
    }

    #[test]
    fn what_is_parsed_renders_or_says_why(
        text in attribute_text(),
        values in prop::collection::btree_map("[a-z.]{0,4}|.{0,3}", prop::collection::vec(any::<u8>(), 0..32), 0..4),
    ) {
        if let Ok(volume) = Volume::parse(&attributes(&[("secrets", &text)]), &pod()) {
            let mut fetched = Fetched::default();
            for source in volume.sources() {
                let secret = values.iter().map(|(key, value)| (key.clone(), SecretBytes::from(value.as_slice())));
                fetched.insert(source.clone(), secret.collect());
            }
            if let Ok(files) = volume.render(&fetched) {
                let mut names: Vec<_> = files.iter().map(|file| file.name.as_str()).collect();
                names.sort_unstable();
                names.dedup();
                prop_assert_eq!(names.len(), files.len());
                prop_assert!(names.iter().all(|name| FileName::parse(name).is_ok()));
            }
        }
    }
}

#[test]
fn what_is_issued_stands_beside_secrets() {
    let secrets = r#"
- issue: database/{{namespace}}-app
  dir: db
- from: {db: {issue: "database/{{namespace}}-app"}, mail: secret/mail}
  template: {app.env: "DB={{db.username}}:{{db.password | urlencode}}\nMAIL={{mail.password}}\n"}
"#;
    let pod = PodRef { namespace: "shop".into(), pod: "web-0".into(), service_account: "web".into() };
    let volume = Volume::parse(&BTreeMap::from([("secrets".to_owned(), secrets.to_owned())]), &pod).unwrap();
    // Once, although two entries want it; and nobody watches it.
    let issues: Vec<_> = volume.issues().into_iter().map(Source::path).collect();
    assert_eq!(
        (issues, volume.paths().into_iter().collect::<Vec<_>>()),
        (vec!["database/shop-app"], vec!["secret/mail"])
    );
    let mut fetched = Fetched::default();
    for source in volume.sources() {
        let keys: &[&str] = if source.is_issued() { &["username", "password"] } else { &["password"] };
        let value = |key: &&str| ((*key).to_owned(), SecretBytes::from(format!("{key}/").as_bytes()));
        fetched.insert(source.clone(), keys.iter().map(value).collect());
    }
    let files = volume.render(&fetched).unwrap();
    let names: Vec<_> = files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["db/password", "db/username", "app.env"]);
    assert_eq!(files[2].content.expose(), b"DB=username/:password%2F\nMAIL=password/\n");
}

#[test]
fn what_does_not_go_with_issue_is_told() {
    let secrets = r#"
- {issue: database/app, path: secret/a}
- {issue: database/app, version: 1}
- {issue: database/app, optional: true, dir: o}
- {issue: database, dir: d}
- {from: {a: {read: secret/a}, b: {issue: database}}, template: {t: "{{a.x}}"}}
"#;
    let expected = [
        r"secrets[0] has both path and issue; expected one of them",
        r"secrets[1].version cannot be combined with issue; what is issued has none",
        r"secrets[2].optional cannot be combined with issue; what is issued is made for the pod, or the pod waits",
        r#"secrets[3].issue is "database"; expected mount/name with 2 to 16 parts"#,
        r"secrets[4].from.a is not a source; expected secret/... or {issue: database/...}",
        r#"secrets[4].from.b.issue is "database"; expected mount/name with 2 to 16 parts"#,
    ];
    let told = problems(&[("secrets", secrets)]);
    for one in expected {
        assert!(told.iter().any(|problem| problem == one), "{one}: {told:#?}");
    }
    let many: String = (0..9).map(|n| format!("- {{issue: database/r{n}, dir: d{n}}}\n")).collect();
    assert_eq!(
        problems(&[("secrets", &many)]),
        ["secrets has 9 different paths to issue; at most 8 are allowed"]
    );
}
