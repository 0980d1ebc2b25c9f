//! Ten guests that print as fast as they can, and all that may befall a console, at random and at
//! once: processes that are killed, logs that are rotated, renamed and truncated, full disks,
//! sleep. In the end each byte that each guest has printed must be accounted for.
//!
//! `make torture` does so for ten minutes, `make test` for half a minute. `HYPEMAN_TORTURE_SECONDS`
//! is for how long, and `HYPEMAN_TORTURE_SEED` makes everyone decide as they did in the run that
//! printed that seed; the moments differ.

mod disk;
mod pains;
mod pieces;
mod victim;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use fastrand::Rng;
use hypeman_tests::bed::Bed;
use hypeman_tests::ch;
use hypeman_tests::disk::SmallDisk;
use hypeman_tests::needs::{LOGROTATE, Need, QEMU};
use libtest_mimic::{Arguments, Trial};
use testguest::account::Account;

use victim::Victim;

/// How many guests.
const GUESTS: usize = 10;

/// Size of their disk.
const ROOM: &str = "8g";

fn main() {
    let arguments = Arguments::from_args();
    let needs = [QEMU, LOGROTATE, Need::Root, Need::CloudHypervisor];
    let lacking: Vec<String> = needs.iter().filter_map(|need| need.lacking()).collect();
    if !lacking.is_empty() && !arguments.list {
        eprintln!("SKIPPED torture: {}", lacking.join("; "));
    }
    let trial = Trial::test("each_byte_is_accounted_for", || {
        torture();
        Ok(())
    });
    libtest_mimic::run(&arguments, vec![trial.with_ignored_flag(!lacking.is_empty())]).exit();
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}")))
}

fn torture() {
    let seed = number("HYPEMAN_TORTURE_SEED").unwrap_or_else(|| fastrand::u64(..));
    let duration = Duration::from_secs(number("HYPEMAN_TORTURE_SECONDS").unwrap_or(30));
    println!("{} s of torture; again with HYPEMAN_TORTURE_SEED={seed}", duration.as_secs());
    let room = SmallDisk::new(ROOM);
    let bed = Bed::new(&room.path().join("data"));
    let victims = at_once((0..GUESTS).collect(), |number| Victim::start(&bed, number, &kind(number)));
    let done = Mutex::new(BTreeMap::new());
    let until = Instant::now() + duration;
    std::thread::scope(|scope| {
        for (number, victim) in victims.iter().enumerate() {
            let (mut rng, done) = (Rng::with_seed(seed.wrapping_add(number as u64)), &done);
            scope.spawn(move || {
                while Instant::now() < until {
                    let pain = pains::any(&mut rng);
                    (pain.inflict)(victim, &mut rng);
                    *done.lock().expect("nobody has failed").entry(pain.name).or_insert(0) += 1;
                }
            });
        }
        let mut rng = Rng::with_seed(seed.wrapping_add(GUESTS as u64));
        while Instant::now() < until {
            disk::fill_for_a_while(room.path(), &mut rng);
        }
    });
    let accounts = at_once(victims.iter().collect(), |victim| (victim, victim.account()));
    print!("{}", table(&accounts));
    println!("{:?}", done.into_inner().expect("nobody has failed"));
    assert!(accounts.iter().all(|(_, account)| account.is_ok()), "not every byte is accounted for");
}

/// Does the same with each, at once.
fn at_once<T: Send, R: Send>(all: Vec<T>, act: impl Fn(T) -> R + Sync) -> Vec<R> {
    let act = &act;
    std::thread::scope(|scope| {
        let threads: Vec<_> = all.into_iter().map(|one| scope.spawn(move || act(one))).collect();
        threads.into_iter().map(|thread| thread.join().expect("nobody has failed")).collect()
    })
}

/// The arguments of `hypeman create` that tell a guest's VMM.
fn kind(number: usize) -> Vec<&'static str> {
    match number % 3 {
        0 => vec!["--hypervisor", "qemu"],
        1 => vec!["--hypervisor", "qemu-microvm"],
        _ => {
            let programs = ch::programs();
            let program = &programs[number / 3 % programs.len()];
            vec!["--hypervisor", "cloud-hypervisor", "--cloud-hypervisor", program]
        }
    }
}

fn table(accounts: &[(&Victim, Result<Account, String>)]) -> String {
    let mut table = "| guest | printed | on disk | told | cut out by logrotate | unexplained |\n|---|---|---|---|---|---|\n".to_owned();
    for (victim, account) in accounts {
        table += &match account {
            Ok(Account { printed, on_disk, told, cut, has_ended }) => {
                let unexplained = printed - on_disk - told - cut;
                let victim = if *has_ended {
                    victim.to_string()
                } else {
                    format!("{victim}, its end told to be missing")
                };
                format!("| {victim} | {printed} | {on_disk} | {told} | {cut} | {unexplained} |\n")
            }
            Err(error) => format!("| {victim} | {error} |\n"),
        };
    }
    table
}
