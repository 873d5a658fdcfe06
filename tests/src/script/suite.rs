//! Finds scripts in folders and plays them, several at a time, each with a runtime of its own.

use crate::script::model::{Case, Script};
use crate::script::parse::parse_file;
use crate::script::report::{Failure, Outcome, Report};
use crate::script::run::{Play, run};
use crate::script::stage::Elsewhere;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Folders within folders.
const DEPTH_MAX: usize = 32;
/// How long to wait for what is expected, unless a script or the caller says.
const PATIENCE: Duration = Duration::from_secs(5);

/// How scripts are played.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Servers that are running; `None`: one in this process for each script.
    pub elsewhere: Option<Elsewhere>,
    /// Accounts get names of their own, so that scripts can be played at the same time.
    pub fresh: bool,
    /// What random names are made from.
    pub seed: u64,
    /// How long to wait for what is expected, unless a script says.
    pub patience: Option<Duration>,
    /// Scripts played at a time; 0: as many as there are processors.
    pub at_a_time: usize,
}

/// A file that is a script, or is none although it looks like one.
#[derive(Clone, Debug)]
pub struct Found {
    /// The file.
    pub file: PathBuf,
}

/// Scripts of these files and folders (`*.scs`), in order of their names.
///
/// # Errors
/// A path cannot be read.
pub fn find(paths: &[PathBuf]) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for path in paths {
        look_into(path, true, 0, &mut found)?;
    }
    Ok(found)
}

fn look_into(path: &Path, named: bool, depth: usize, found: &mut Vec<Found>) -> io::Result<()> {
    if path.is_dir() && depth <= DEPTH_MAX {
        let entries = std::fs::read_dir(path)?;
        let mut inside: Vec<PathBuf> = entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<_>>()?;
        inside.sort();
        for path in inside {
            look_into(&path, false, depth + 1, found)?;
        }
    } else if named || path.extension().is_some_and(|extension| extension == "scs") {
        std::fs::metadata(path)?;
        found.push(Found { file: path.into() });
    }
    Ok(())
}

/// One thing to play: a script, a case of it, or a file that is none.
#[derive(Clone, Debug)]
pub struct Part {
    /// How it is called.
    pub name: String,
    script: Result<Box<Script>, Box<Report>>,
    case: Option<Case>,
}

/// Reads scripts; each case of a table becomes a part of its own.
#[must_use]
pub fn parts(found: &[Found]) -> Vec<Part> {
    found
        .iter()
        .flat_map(|found| parts_of(&found.file))
        .collect()
}

fn parts_of(file: &Path) -> Vec<Part> {
    let script = match parse_file(file) {
        Ok(script) => script,
        Err(error) => {
            let mut report = blank(file.display().to_string(), file);
            report.outcome = Outcome::Broken(error);
            let name = report.name.clone();
            return vec![Part {
                name,
                script: Err(Box::new(report)),
                case: None,
            }];
        }
    };
    let name = file.display().to_string();
    if script.cases.is_empty() {
        return vec![Part {
            name,
            script: Ok(Box::new(script)),
            case: None,
        }];
    }
    let part = |case: &Case| Part {
        name: format!("{name}#{}", case.name),
        script: Ok(Box::new(script.clone())),
        case: Some(case.clone()),
    };
    script.cases.iter().map(part).collect()
}

fn blank(name: String, file: &Path) -> Report {
    Report {
        name,
        file: file.into(),
        title: String::new(),
        outcome: Outcome::Passed,
        took: Duration::ZERO,
        seed: 0,
        lanes: Vec::new(),
        events: Vec::new(),
    }
}

/// Plays all parts; `told` hears of each as it ends. The reports come in the order of the parts.
pub fn play(parts: &[Part], options: &Options, told: &(dyn Fn(&Report) + Sync)) -> Vec<Report> {
    let next = AtomicUsize::new(0);
    let reports: Mutex<Vec<Option<Report>>> = Mutex::new(vec![None; parts.len()]);
    std::thread::scope(|scope| {
        for _ in 0..workers(options).min(parts.len()) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(part) = parts.get(index) else {
                        return;
                    };
                    let report = play_part(part, options, index as u64);
                    told(&report);
                    let mut reports = reports.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(slot) = reports.get_mut(index) {
                        *slot = Some(report);
                    }
                }
            });
        }
    });
    let reports = reports.into_inner().unwrap_or_else(PoisonError::into_inner);
    reports.into_iter().flatten().collect()
}

/// One at a time elsewhere unless accounts are fresh: scripts share their names.
fn workers(options: &Options) -> usize {
    match options.at_a_time {
        _ if options.elsewhere.is_some() && !options.fresh => 1,
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        number => number,
    }
}

/// Plays one part on this thread.
#[must_use]
pub fn play_part(part: &Part, options: &Options, number: u64) -> Report {
    let script = match &part.script {
        Ok(script) => script,
        Err(report) => return (**report).clone(),
    };
    let here = options.elsewhere.is_none();
    let play = Play {
        elsewhere: options.elsewhere.clone(),
        fresh: options.fresh,
        seed: options.seed.wrapping_add(number),
        patience: options.patience.unwrap_or(PATIENCE),
    };
    // outside of a runtime, whose clock may be a paused one
    let started = tokio::time::Instant::now();
    // a panic anywhere in the runner or the server is a failure of this script only
    let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder
            .enable_all()
            .start_paused(here && script.has_paused_clock());
        let runtime = builder.build().ok()?;
        let report = runtime.block_on(run(script, part.case.as_ref(), &play));
        runtime.shutdown_timeout(Duration::from_secs(1));
        Some(report)
    }));
    match played {
        Ok(Some(mut report)) => {
            report.took = started.elapsed();
            report
        }
        Ok(None) | Err(_) => {
            let mut report = blank(part.name.clone(), &script.file);
            if let Some(step) = script.steps.first() {
                let what = "the runner or the server has panicked, or there is no runtime";
                let failure = Failure::new(&step.at, &step.text, what);
                report.outcome = Outcome::Failed(Box::new(failure));
            }
            report
        }
    }
}
