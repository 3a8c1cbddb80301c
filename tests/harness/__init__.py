"""What the tests with real processes share: brokers to start and kill, suites of named tests, bare Kafka frames."""
