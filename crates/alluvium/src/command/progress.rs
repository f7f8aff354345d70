//! Progress of long work, on stderr, where somebody looks at it.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A progress bar; shows nothing where stderr is no terminal.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// A bar for `what`.
    pub(crate) fn new(quiet: bool, what: &str) -> Self {
        let target = if quiet || !std::io::stderr().is_terminal() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template(
            "{msg} {wide_bar} {human_pos}/{human_len} {per_sec} {elapsed_precise}",
        );
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        Self(bar)
    }

    /// How far it is, of how much.
    pub(crate) fn set(&self, done: u64, of: u64) {
        self.0.set_length(of);
        self.0.set_position(done);
    }

    /// Says what is done now.
    pub(crate) fn say(&self, what: &str) {
        self.0.set_message(what.to_owned());
    }

    /// Ends and removes the bar.
    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}
