"""Parts of the page that show what tasks' systems say of test items: one file per part, which `showcase` finds."""
