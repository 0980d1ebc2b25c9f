//! One action on several names.

use std::process::ExitCode;

use anyhow::Result;

use crate::output;

/// Does something to each of several things; one that fails is told and does not keep the others
/// from it.
pub(crate) fn each(names: &[String], mut action: impl FnMut(&str) -> Result<()>) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for name in names {
        if let Err(error) = action(name) {
            output::fail(&error);
            code = ExitCode::FAILURE;
        }
    }
    code
}

/// Does something to each of several things at once, since it means waiting, and prints their
/// names.
pub(crate) fn each_at_once(names: &[String], action: impl Fn(&str) -> Result<()> + Sync) -> ExitCode {
    let action = &action;
    std::thread::scope(|scope| {
        let running: Vec<_> = names.iter().map(|name| scope.spawn(move || action(name))).collect();
        let mut done = running.into_iter();
        each(names, |name| {
            let joined = done.next().map_or(Ok(Ok(())), |thread| thread.join());
            joined.unwrap_or_else(|_| Err(anyhow::anyhow!("{name}: the work on it panicked")))?;
            output::line(name)
        })
    })
}
