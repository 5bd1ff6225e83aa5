"""Parts of the command line: flags from settings; race, queue, report, export, ui."""
