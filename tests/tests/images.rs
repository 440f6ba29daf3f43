//! What `deploy/images/build` and `deploy/images/sbom` made: images of one program each, labelled, and lists of what is in
//! them that leave no crate out.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test ends at the first surprise"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// Name, package, program, and the user it runs as.
const IMAGES: [(&str, &str, &str, &str); 4] = [
    ("server", "strongroom-server", "strongroom-server", "65532:65532"),
    ("csi-driver", "strongroom-csi", "strongroom-csi", "0:0"),
    ("cli", "strongroom", "strongroom", "65532:65532"),
    ("example-app", "strongroom-client", "pod_app", "65532:65532"),
];

/// The root of the repository, if what is looked at was made there. CI makes it before.
fn made(file: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let path = root.join("target/image").join(file);
    let there = path.is_file();
    assert!(there || std::env::var_os("CI").is_none(), "{} is missing: CI makes it first", path.display());
    if !there {
        println!("not looked at, because it was not made: {}", path.display());
    }
    there.then_some(path)
}

fn out(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A file out of an image's archive.
fn member(archive: &Path, name: &str) -> Vec<u8> {
    out(Command::new("tar").arg("-xOf").arg(archive).arg(name))
}

#[test]
fn an_image_is_one_program_that_says_what_it_is() {
    for (name, _, program, user) in IMAGES {
        let Some(archive) = made(&format!("{name}.tar")) else { continue };
        let json = |file: &str| serde_json::from_slice::<Value>(&member(&archive, file)).unwrap();
        let manifest = &json("manifest.json")[0];
        let image = json(manifest["Config"].as_str().unwrap());
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        assert_eq!(image["architecture"], architecture, "{name}");
        assert_eq!(image["config"]["User"], user, "{name}");
        assert_eq!(image["config"]["Entrypoint"], serde_json::json!([format!("/{program}")]), "{name}");

        let label = |key: &str| {
            image["config"]["Labels"][format!("org.opencontainers.image.{key}")].as_str().unwrap_or_default()
        };
        assert_eq!(label("title"), format!("strongroom/{name}"));
        assert_eq!(label("version"), env!("CARGO_PKG_VERSION"), "{name}");
        assert_eq!(label("licenses"), "Apache-2.0", "{name}");
        assert_eq!(label("source"), env!("CARGO_PKG_REPOSITORY"), "{name}");
        for key in ["description", "documentation", "revision", "url", "vendor"] {
            assert!(!label(key).is_empty(), "{name} has no label {key}");
        }

        let layers = manifest["Layers"].as_array().unwrap();
        assert_eq!(layers.len(), 1, "{name}");
        let mut list = Command::new("sh");
        list.args(["-c", "tar -xOf \"$0\" \"$1\" | tar -tv"]).arg(&archive).arg(layers[0].as_str().unwrap());
        let files = String::from_utf8(out(&mut list)).unwrap();
        let files: Vec<_> = files.lines().filter(|line| !line.starts_with('d')).collect();
        assert!(
            matches!(files[..], [only] if only.starts_with("-rwxr-xr-x") && only.ends_with(program)),
            "{name} holds {files:?}"
        );
    }
}

#[test]
fn an_sbom_names_every_crate_that_is_linked() {
    for (name, package, program, _) in IMAGES {
        let linked = linked(package);
        assert!(linked.len() > 20, "{package}: {linked:?}");
        for file in [format!("{name}.spdx.json"), format!("{program}.spdx.json")] {
            let Some(path) = made(&file) else { continue };
            let listed = listed(&serde_json::from_slice(&fs::read(path).unwrap()).unwrap());
            let missing: Vec<_> = linked.difference(&listed).collect();
            assert!(missing.is_empty(), "{file} leaves out {missing:?}");
            println!("{file}: {} crates, of which {} are linked for sure", listed.len(), linked.len());
        }
    }
}

/// What cargo links into a package's programs, as package URLs.
fn linked(package: &str) -> BTreeSet<String> {
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--locked", "--offline", "--edges=normal,no-proc-macro", "--prefix=none"]);
    let target = format!("--target={}-unknown-linux-gnu", std::env::consts::ARCH);
    tree.args([&target, "--format={p}", "--package", package]);
    let tree = String::from_utf8(out(tree.current_dir(env!("CARGO_MANIFEST_DIR")))).unwrap();
    let crates = tree.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
        Some(format!("pkg:cargo/{name}@{}", version.replace('+', "%2B")))
    });
    crates.collect()
}

/// The package URLs of crates in an SBOM.
fn listed(sbom: &Value) -> BTreeSet<String> {
    let packages = sbom["packages"].as_array().unwrap().iter();
    let references = packages.filter_map(|package| package["externalRefs"].as_array()).flatten();
    let locators = references.filter_map(|reference| reference["referenceLocator"].as_str());
    locators.filter(|locator| locator.starts_with("pkg:cargo/")).map(str::to_owned).collect()
}
