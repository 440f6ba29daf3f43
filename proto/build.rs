//! Generates the Rust side of `proto/strongroom/v1/*.proto`. protox compiles the files, so nobody needs protoc.

use std::{collections::BTreeSet, path::PathBuf};

use protox::prost_reflect::prost_types::{DescriptorProto, FileDescriptorSet};

/// Where the files are, below `proto`.
const FOLDER: &str = "strongroom/v1";
const PACKAGE: &str = "strongroom.v1";

/// Messages that carry secret bytes: wiped when dropped, and without `Debug`, so that no log line can show them.
const SECRET_MESSAGES: &[&str] = &["strongroom.v1.Sensitive"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(PathBuf::from("proto").join(FOLDER))? {
        files.push(PathBuf::from(FOLDER).join(entry?.file_name()));
    }
    files.sort();
    let descriptors = protox::compile(files, ["proto"])?;

    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), prost::Message::encode_to_vec(&descriptors))?;

    let no_debug: Vec<String> = secret(&descriptors).into_iter().collect();
    let mut config = tonic_prost_build::configure().btree_map(".").skip_debug(no_debug);
    for message in SECRET_MESSAGES {
        config = config.type_attribute(message, "#[derive(zeroize::Zeroize, zeroize::ZeroizeOnDrop)]");
    }
    config.compile_fds(descriptors)?;
    Ok(())
}

/// The messages that carry secret bytes, and all that hold one of them, however deep.
fn secret(descriptors: &FileDescriptorSet) -> BTreeSet<String> {
    let mut messages = Vec::new();
    for file in descriptors.file.iter().filter(|file| file.package() == PACKAGE) {
        file.message_type.iter().for_each(|message| collect(PACKAGE, message, &mut messages));
    }
    let mut secret: BTreeSet<String> = SECRET_MESSAGES.iter().map(|name| (*name).to_owned()).collect();
    loop {
        let holds = |(_, fields): &&(String, Vec<String>)| fields.iter().any(|field| secret.contains(field));
        let more: Vec<String> = messages.iter().filter(holds).map(|(name, _)| name.clone()).collect();
        let before = secret.len();
        secret.extend(more);
        if secret.len() == before {
            return secret;
        }
    }
}

/// A message and those within it, with the messages that their fields hold.
fn collect(within: &str, message: &DescriptorProto, messages: &mut Vec<(String, Vec<String>)>) {
    let name = format!("{within}.{}", message.name());
    let fields = message.field.iter().map(|field| field.type_name().trim_start_matches('.').to_owned());
    messages.push((name.clone(), fields.collect()));
    message.nested_type.iter().for_each(|inner| collect(&name, inner, messages));
}
