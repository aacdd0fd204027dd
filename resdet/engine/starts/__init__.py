"""Before the first step: `start_checks` of the machine, `start_estimate` of time and memory."""
