//! `fapictl demo`: starts a whole mesh, plays the story against it, ends it.

mod config;
mod folder;
mod keep;
mod logs;
mod mesh;
mod ports;
mod process;
mod report;
mod shot;
mod story;
mod thief;

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use crate::args::DemoArgs;
use crate::failure::{Failure, OrFail};
use folder::Folder;
use mesh::{Mesh, Programs};
use report::Report;

/// The file that describes a mesh, in its folder.
const DESCRIPTION: &str = "demo.json";

/// Runs the demo. The exit code is 0 only if every step came out as stated.
pub(crate) async fn run(args: DemoArgs) -> Result<ExitCode, Failure> {
    let programs = Programs::find(args.bin_dir.as_deref())?;
    let mut folder = Folder::prepare(args.state.as_deref())?;
    let mut report = Report::new(args.output);
    let played = tokio::select! {
        played = play(&folder, programs, &mut report, &args) => played,
        // Dropping the story kills every process of it.
        asked = asked_to_end() => Err(asked.err().unwrap_or_else(|| {
            Failure::new("stopped before the end", "the demo", "run it again")
        })),
    };
    report.quiet();
    let well = args.no_story || report.passed();
    if played.is_ok() && !args.keep {
        report.finish();
    }
    folder.done(played.is_ok() && well);
    played.map(|()| if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn play(folder: &Folder, programs: Programs, report: &mut Report, args: &DemoArgs) -> Result<(), Failure> {
    let mut mesh = Mesh::start(folder.path().to_owned(), folder.lock()?, programs, report).await?;
    if !args.no_story {
        mesh.describe()?;
        story::play(&mut mesh, report).await?;
        mesh.check()?;
    }
    if args.keep {
        if !args.no_story {
            report.finish();
        }
        keep::stay(&mesh, report).await?;
        asked_to_end().await?;
    }
    report.progress("ending every process");
    mesh.stop().await;
    Ok(())
}

/// Waits for Ctrl-C, or for whoever ends programs in a kinder way.
async fn asked_to_end() -> Result<(), Failure> {
    let remedy = "report this";
    let mut interrupt = signal(SignalKind::interrupt()).or_fail("no signals", "tokio", remedy)?;
    let mut terminate = signal(SignalKind::terminate()).or_fail("no signals", "tokio", remedy)?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
