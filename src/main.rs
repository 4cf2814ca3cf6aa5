use std::process::ExitCode;

fn main() -> ExitCode {
    cht_fhir_mediator::cli::run()
}
