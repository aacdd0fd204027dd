"""`resdet rank`: backbones ranked on one data set by a quick detector each.

arguments   the command line
planning    what is ranked, on which images, for how many steps
fitting     steps and images by what each backbone was measured to take
command     runs the rows, prints the table, writes the page
finalists   the full experiment for the first rows
row_parts   what is done in a process of its own for one backbone
"""
