//! The command line of `top`.

use clap::Args;

/// `top`
#[derive(Args, Debug)]
pub struct Top {
    /// Seconds between two looks
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    pub every: u64,
    /// Stop after this many looks
    #[arg(long, short = 'n', value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// How many topics and groups to show
    #[arg(long, default_value_t = 20)]
    pub rows: usize,
    /// Where brokers have millrace.metrics.listener, comma-separated host:port; what `profiles` says of the cluster if
    /// absent
    #[arg(long, value_name = "HOST:PORT")]
    pub metrics: Option<String>,
}
