//! The options of every command: which server, as whom, and how to print.

use std::path::PathBuf;

use clap::{ArgAction, Args};

use crate::output::Format;

#[derive(Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// The address of the server: https://host:port
    #[arg(long, global = true, env = "STRONGROOM_ADDR", value_name = "URL")]
    pub(crate) address: Option<String>,
    /// A PEM file with the CA certificates to verify the server with
    #[arg(long, global = true, env = "STRONGROOM_CACERT", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// The name to expect in the server's certificate, if it is not the host of the address
    #[arg(long, global = true, env = "STRONGROOM_SERVER_NAME", value_name = "NAME")]
    pub(crate) server_name: Option<String>,
    /// The profile of config.toml to use
    #[arg(long, global = true, env = "STRONGROOM_PROFILE", value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// The output format; env, shell and docker are variables of an environment, and only for get
    #[arg(short, long, global = true, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
    /// Seconds a call may take, its retries included
    #[arg(long, global = true, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) timeout: u64,
    /// Print no colours, like a NO_COLOR that is not empty
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
    /// Log to standard error; give it twice for more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}
