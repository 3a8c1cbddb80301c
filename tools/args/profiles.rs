//! The command line of `profiles`.

use clap::Subcommand;

/// `profiles`
#[derive(Debug, Subcommand)]
pub enum Profiles {
    /// Clusters that have a name, for --cluster and MILLRACE_CLUSTER
    List,
    /// Give a cluster a name: its brokers by --bootstrap
    Set {
        /// The name
        name: String,
        /// Where its brokers have millrace.metrics.listener, comma-separated host:port
        #[arg(long, value_name = "HOST:PORT")]
        metrics: Option<String>,
    },
    /// Forget a name
    Delete {
        /// The name
        name: String,
    },
}
