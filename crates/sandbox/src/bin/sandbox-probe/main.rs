//! The probes' helper: what an attacker does that a shell cannot say.
//!
//! Lies as `/bin/probe` in the sandboxes of `tests/probes/` and is called by their scripts. Each
//! command does one thing, prints what came of it and judges nothing: `got …` where it has taken
//! what it was after, `refused …` with the error's name where it has not. `answer` is the
//! neighbour's init.
//!
//! `probe net …` is in `net`.
//!
//! `probe call NAME WORD… [=ERROR] [, NAME WORD…]…` makes system calls in one process and tells of
//! the last; an error said to be wanted is a success: the kernel gives it to those it lets pass
//! alone. A word is a number
//! (also 0x…), `%` for what the call before returned, `s:TEXT` for a string, `z:N` for N zero
//! bytes, `x:HEX` or `x:HEX+N` for bytes, and N zeros (`probe handle PATH` prints those of a file's handle), `o:PATH` for a descriptor open for reading, `w:PATH` for writing.
#![allow(clippy::print_stdout, reason = "its output is what is judged")]

mod answer;
mod bombs;
mod calls;
mod net;
mod tricks;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.split_first() {
        Some((&"call", rest)) => calls::run(rest),
        Some((&"answer", [])) => answer::run(),
        Some((&"bomb", rest)) => bombs::run(rest, false),
        Some((&"hold", rest)) => bombs::run(rest, true),
        Some((&"trick", rest)) => tricks::run(rest),
        Some((&"net", rest)) => net::run(rest),
        Some((&"handle", [path])) => calls::handle(path),
        _ => Err(std::io::Error::other("no such command")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("probe: {words:?}: {}", calls::name(&error));
            ExitCode::FAILURE
        }
    }
}
