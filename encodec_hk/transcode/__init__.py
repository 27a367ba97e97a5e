"""Files and pipes through a codec to other files and pipes. No command line here."""
