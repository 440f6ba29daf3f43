//! The driver keeps its shape: each vendor crate and each dangerous call stays in its one room. What holds for all crates is in
//! `tests/tests/tidy`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::{fs, path::Path};

/// What only some files may name.
const ROOMS: &[(&str, &[&str])] = &[
    ("ring::digest", &["volume.rs"]),
    ("clap::", &["config.rs", "main.rs"]),
    ("rustix::mount", &["mount.rs"]),
    ("kube::", &["cluster.rs"]),
    ("loona_hpack", &["authority.rs"]),
    (
        "use tonic::",
        &[
            "call.rs",
            "connection.rs",
            "failure.rs",
            "identity.rs",
            "lib.rs",
            "node.rs",
            "probe.rs",
            "provider.rs",
            "registration.rs",
        ],
    ),
    ("strongroom_client::Client", &["strongroom.rs"]),
    // Nothing is deleted by path: handles follow no link.
    ("remove_dir", &[]),
    ("fs::remove_file", &["state.rs"]),
];

#[test]
fn everything_stays_in_its_room() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        seen += 1;
        if file.ends_with("_tests.rs") || file == "fake_server.rs" {
            continue;
        }
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        for (name, rooms) in ROOMS {
            if code.contains(name) && !rooms.contains(&file.as_str()) {
                wrong.push(format!("{file} names {name}, which belongs to {rooms:?}"));
            }
        }
    }
    assert!(seen > 20, "found only {seen} files");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
