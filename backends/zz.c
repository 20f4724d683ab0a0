typedef int zz_unused;
