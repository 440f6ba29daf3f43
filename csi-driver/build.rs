//! Generates the Rust side of `proto/*.proto`. protox compiles the files, so nobody needs protoc.

/// Messages that hold tokens or secrets: without `Debug`, so that no log line can show them.
const NO_DEBUG: &[&str] = &[
    "csi.v1.NodePublishVolumeRequest",
    "csi.v1.VolumeCapability",
    "csi.v1.VolumeCapability.MountVolume",
    "csi.v1.VolumeCapability.access_type",
    "v1alpha1.MountRequest",
    "v1alpha1.MountResponse",
    "v1alpha1.File",
];

/// Messages that hold nothing else worth keeping and are wiped when dropped.
const WIPED: &[&str] = &["v1alpha1.File"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = ["csi", "pluginregistration", "provider"].map(|name| format!("proto/{name}.proto"));
    let descriptors = protox::compile(files, ["proto"])?;
    let mut config = tonic_prost_build::configure().btree_map(".").skip_debug(NO_DEBUG);
    for message in WIPED {
        config = config.type_attribute(message, "#[derive(zeroize::Zeroize, zeroize::ZeroizeOnDrop)]");
    }
    config.compile_fds(descriptors)?;
    Ok(())
}
