"""Many trainings compared: settings, plan, jobs, results, comparison and its report."""
