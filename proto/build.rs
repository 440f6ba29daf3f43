//! Generates the Rust side of `proto/strongroom/v1/*.proto`. protox compiles the files, so nobody needs protoc.

use std::path::PathBuf;

/// Messages that carry secret bytes: wiped when dropped, and without `Debug`, so that no log line can show them.
const SECRET_MESSAGES: &[&str] = &["strongroom.v1.Sensitive"];

/// Messages that contain one of the above.
const NO_DEBUG: &[&str] = &[
    "strongroom.v1.Sensitive",
    "strongroom.v1.InitResponse",
    "strongroom.v1.UnsealRequest",
    "strongroom.v1.RekeyRequest",
    "strongroom.v1.RekeyResponse",
    "strongroom.v1.ConfirmRekeyRequest",
    "strongroom.v1.LoginRequest",
    "strongroom.v1.LoginRequest.Userpass",
    "strongroom.v1.LoginRequest.Kubernetes",
    "strongroom.v1.TokenResponse",
    "strongroom.v1.PutUserRequest",
    "strongroom.v1.PutRequest",
    "strongroom.v1.PatchRequest",
    "strongroom.v1.PatchRequest.Change",
    "strongroom.v1.GetResponse",
    "strongroom.v1.HashRequest",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = ["secrets", "auth", "policy", "sys", "audit"]
        .map(|name| PathBuf::from(format!("proto/strongroom/v1/{name}.proto")));
    let descriptors = protox::compile(files, ["proto"])?;

    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), prost::Message::encode_to_vec(&descriptors))?;

    let mut config = tonic_prost_build::configure().btree_map(".").skip_debug(NO_DEBUG);
    for message in SECRET_MESSAGES {
        config = config.type_attribute(message, "#[derive(zeroize::Zeroize, zeroize::ZeroizeOnDrop)]");
    }
    config.compile_fds(descriptors)?;
    Ok(())
}
