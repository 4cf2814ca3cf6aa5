//! placeholder
use std::process::ExitCode;
#[derive(clap::Args)]
pub struct Options {
    #[arg(long)]
    exit: bool,
}
pub async fn run(_o: Options) -> ExitCode {
    ExitCode::SUCCESS
}
