//! The messages and services of the three contracts, generated from `proto/`.

#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, clippy::restriction)]

/// The Container Storage Interface.
pub mod csi {
    tonic::include_proto!("csi.v1");
}

/// How the kubelet learns of a plugin.
pub mod registration {
    tonic::include_proto!("pluginregistration");
}

/// The Secrets Store CSI driver's provider.
pub mod provider {
    tonic::include_proto!("v1alpha1");
}
