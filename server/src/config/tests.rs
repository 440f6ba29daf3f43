//! What the configuration takes, and how each mistake is told.

use super::*;

const TLS: &str = "[tls]\ncertificate = \"c\"\nkey = \"k\"\n";

fn problems(text: &str) -> Vec<String> {
    parse(text, &Overrides::default()).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn the_example_says_the_defaults() {
    let example = parse(include_str!("../../../deploy/server.toml"), &Overrides::default()).unwrap();
    let tls = "[tls]\ncertificate = \"/etc/strongroom/tls/tls.crt\"\nkey = \"/etc/strongroom/tls/tls.key\"";
    assert_eq!(example, parse(tls, &Overrides::default()).unwrap());
}

#[test]
fn all_mistakes_at_once() {
    let told = problems(
        "[listen]\naddress = \"nowhere\"\nport = 1\n[tls]\nkey = 5\n[storage]\nkind = \"slde\"\ncache_mb = 3\n\
         cache_mib = 1\n[audit]\nstdout = 3\n[log]\nlevel = \"\"\n[limit]\nin_flight = 1\n",
    );
    for (key, words) in [
        ("listen.address", "\"nowhere\""),
        ("listen.port", "not a known key"),
        ("tls.certificate", "is missing"),
        ("tls.key", "is 5; expected a path"),
        ("storage.kind", "\"slde\"; expected \"sled\" or \"memory\""),
        ("storage.cache_mb", "did you mean cache_mib?"),
        ("storage.cache_mib", "is 1; expected a whole number from 8 to 65536"),
        ("audit.stdout", "true or false"),
        ("log.level", "a level"),
        ("limit", "did you mean limits?"),
    ] {
        assert!(
            told.iter().any(|t| t.starts_with(&format!("{key}:")) && t.contains(words)),
            "{key} in {told:#?}"
        );
    }
    assert_eq!(told.len(), 10);
}

#[test]
fn two_ports_are_two() {
    let listen = |address: &str, ops: &str| {
        let text = format!("{TLS}[listen]\naddress = \"{address}\"\nops_address = \"{ops}\"\n");
        parse(&text, &Overrides::default()).is_ok()
    };
    assert!(!listen("127.0.0.1:7420", "127.0.0.1:7420"));
    assert!(!listen("0.0.0.0:7420", "127.0.0.1:7420") && !listen("127.0.0.1:7420", "[::]:7420"));
    assert!(listen("127.0.0.1:7420", "127.0.0.2:7420") && listen("127.0.0.1:0", "127.0.0.1:0"));
}

#[test]
fn syntax_and_section_types() {
    assert!(problems("[listen\n")[0].contains("line 1"));
    assert!(problems("listen = 3\n").iter().any(|t| t.starts_with("listen: is 3")));
}

#[test]
fn overrides_win() {
    let overrides = Overrides {
        listen_address: Some("[::]:1".into()),
        audit_stdout: Some("true".into()),
        ..Overrides::default()
    };
    let config = parse(&format!("{TLS}[listen]\naddress = \"127.0.0.1:2\"\n"), &overrides).unwrap();
    assert_eq!(config.listen.address.to_string(), "[::]:1");
    assert!(config.audit.sinks.contains("stdout"));
}

#[test]
fn the_command_line_is_sound() {
    use clap::CommandFactory;
    Args::command().debug_assert();
    let args = Args::parse_from(["strongroom-server", "check-config", "--log-level", "debug"]);
    assert_eq!(
        (args.command, args.overrides.log_level.as_deref()),
        (Some(Command::CheckConfig), Some("debug"))
    );
}
