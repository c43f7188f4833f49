//! `fapictl demo`: starts a whole mesh, plays the story against it, ends it. `fapictl attack`: plays the attacks alone, against a
//! mesh that is there.

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

use std::cell::Cell;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::args::{AttackArgs, DemoArgs};
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
    let end = End::listen()?;
    let played = tokio::select! {
        played = play(&folder, programs, &mut report, &args, &end) => played,
        // Dropping the story kills every process of it.
        () = end.too_early() => Err(Failure::new("stopped before the end", "the demo", "run it again")),
    };
    report.quiet();
    let well = args.no_story || report.passed();
    if played.is_ok() && !args.keep {
        report.finish();
    }
    folder.done(played.is_ok() && well);
    played.map(|()| if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Attacks the mesh that a folder describes. The exit code is 0 only if every step came out as stated.
pub(crate) async fn attack(args: AttackArgs) -> Result<ExitCode, Failure> {
    let mut mesh = Mesh::of_another(args.state, Programs::find(args.bin_dir.as_deref())?)?;
    let mut report = Report::new(args.output);
    if args.from_mesh {
        story::attack_from_mesh(&mut mesh, &mut report).await?;
    } else {
        story::attack(&mut mesh, &mut report).await?;
    }
    report.finish();
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn play(
    folder: &Folder,
    programs: Programs,
    report: &mut Report,
    args: &DemoArgs,
    end: &End,
) -> Result<(), Failure> {
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
        end.expect();
        keep::stay(&mesh, report).await?;
        end.asked().await;
    }
    report.progress("ending every process");
    mesh.stop().await;
    Ok(())
}

/// The wish of a person, or of whoever ends programs in a kinder way, that the demo ends.
struct End {
    asked: watch::Receiver<bool>,
    expected: Cell<bool>,
}

impl End {
    fn listen() -> Result<Self, Failure> {
        let remedy = "report this";
        let mut interrupt = signal(SignalKind::interrupt()).or_fail("no signals", "tokio", remedy)?;
        let mut terminate = signal(SignalKind::terminate()).or_fail("no signals", "tokio", remedy)?;
        let (sender, asked) = watch::channel(false);
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            sender.send_replace(true);
            // Kept, so that nobody takes its loss for the wish.
            sender.closed().await;
        });
        Ok(Self { asked, expected: Cell::new(false) })
    }

    /// From now on it is what everybody waits for.
    fn expect(&self) {
        self.expected.set(true);
    }

    async fn asked(&self) {
        // The sender lives as long as this.
        let _ = self.asked.clone().wait_for(|asked| *asked).await;
    }

    /// Returns when it is asked for while there is still something to play.
    async fn too_early(&self) {
        self.asked().await;
        if self.expected.get() {
            std::future::pending::<()>().await;
        }
    }
}
