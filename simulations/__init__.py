"""What a person launches: the command line, scenarios, engines, results."""
