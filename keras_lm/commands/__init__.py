"""Parts of the command line: flags from settings, and the commands race, report and export."""
