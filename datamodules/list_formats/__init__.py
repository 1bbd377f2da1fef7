"""Official lists of data sets, one file for each data set, and the table of all formats that `pack` reads."""
