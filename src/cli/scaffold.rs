//! `scaffold`.
use super::fail;
use crate::config::Settings;
use crate::domain::message::Route;
use crate::translate::language::mistake::Mistake;
use crate::translate::proof::cases;
use crate::translate::scaffold::{Scaffold, scaffold};
use crate::translate::{Mappings, Source};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Args)]
pub(super) struct Options {
    /// An XForm (forms/app/*.xml), app_settings.json (with --form), or a report as CHT stores it.
    file: PathBuf,
    /// The code of a JSON form in app_settings.
    #[arg(long)]
    form: Option<String>,
    /// Name of the mapping; the form's code, if not given.
    #[arg(long)]
    name: Option<String>,
    /// Print the mapping instead of writing it and a case beside the other mappings.
    #[arg(long)]
    print: bool,
}

pub(super) fn run(settings: &Settings, options: &Options) -> ExitCode {
    let read = std::fs::read_to_string(&options.file).map_err(|e| e.to_string());
    let made = Mappings::new(&settings.translate).map_err(|mistakes| told(&mistakes)).and_then(|mappings| {
        let (form, name) = (options.form.as_deref(), options.name.as_deref());
        read.and_then(|text| scaffold(&text, form, name, &mappings))
            .map_err(|why| format!("{}: {why}", options.file.display()))
    });
    let made = match made {
        Ok(made) => made,
        Err(why) => return fail(&why),
    };
    if options.print {
        say!("{}", made.yaml.trim_end());
        return ExitCode::SUCCESS;
    }
    match write(settings, &made) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => fail(&why),
    }
}

fn told(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn write(settings: &Settings, made: &Scaffold) -> Result<(), String> {
    let folder = &settings.translate.mappings;
    std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let file = folder.join(format!("{}.yaml", made.name));
    if file.exists() {
        return Err(format!(
            "{}: it is there already; give another --name, or remove it first",
            file.display()
        ));
    }
    std::fs::write(&file, &made.yaml).map_err(|e| format!("{}: {e}", file.display()))?;
    let mappings = Mappings::new(&settings.translate).map_err(|mistakes| told(&mistakes))?;
    let route = Route::ChtPush(None);
    let source = Source { route: &route, body: &made.example, received: cases::RECEIVED };
    let translated = mappings.translate(&source, Some(&made.name)).map_err(|refusal| refusal.to_string())?;
    let case = cases::new(&route, cases::RECEIVED, &made.example, &mappings.preview(&translated));
    let cases_folder = folder.join(format!("{}.cases", made.name));
    std::fs::create_dir_all(&cases_folder).map_err(|e| format!("{}: {e}", cases_folder.display()))?;
    let example = cases_folder.join("example.json");
    std::fs::write(&example, cases::written(&case)).map_err(|e| format!("{}: {e}", example.display()))?;
    let todo = made.yaml.matches("TODO").count();
    say!("{}: written, with {todo} TODO(s) for you to decide", file.display());
    say!("{}: an example with an answer to each question, and what it becomes", example.display());
    say!("next: cht-fhir-mediator check");
    Ok(())
}
