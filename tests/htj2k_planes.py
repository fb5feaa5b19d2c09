"""Two drawn slices as High-Throughput JPEG 2000 code streams, which nothing of ours can write.

64 rows of 64 unsigned 16-bit values: 24 outside, 1064 in the body, 1524 in the spine, 174 in the
lungs. Made with OpenJPH, reversible, four resolutions.
"""

import base64

_WITHOUT_LUNGS = (
    "|4;u>04YEK0000$0000$00000000000000$0000$0000000000009pH0sl|{2mk^A000XAQUDA90ssL31Ox;?0sm"
    "Y85Fm(<kdTm&kdTm&h=_>)WB?Zc0Z(vcZc0!{AXa5^ATTa6HZC(R|BwI*000001OEU4|C7J~E}T{WM*WTb)%5QEl"
    "|8;+YwzyQ_ZQjs+Yj(v_VD{9{s8rtLI5$i0Kfni!~g+pzyKDwM6nnE0!r#>l}1eT1eR0V`YMBfU{IF;Kmh<F09FA"
    "25&(pfwi1^Qmi7R|0w|1NYMB6f0{}p&9lVhd=z}l-!T@6dp17dY*#N)*7oflZ7kvN#U0_AP1rUJ&p+H3nG-`bCAQ"
    "F+d`qnjSeDL6wL=wr?TQfxVpn;46bC$~lKqG_XoasTFB=9&OpJ?#<K;|5fNs$3X1jvnm@qxw%8XstU!0-XG28T1S"
    "U;rvYAq5NB`j(|NG>2mpy^)*)$@CBiM`|nq^nq>`03iXb2taC+0Wb>++yD@b!6&v1Zaf3P0o6mY`zZwh1PBpC)mQ"
    "}(L>S<)1)&9j1tS2^0l)wk(2xKH^fUkgcK}GW9RVgOwnm1H5{V#yhyuw$14R-EAb>yu$v^`|5(yxHKmy4?14R-EA"
    "b>yu$v^`|5(yxH7)N420?9xFMG^@hfDEpp0*GKMD}q1*$v^|u6p<tx1Tw$?(18X3Y=Y>d9sYUuND-wl>=lrpcyL0"
    "{hwwZ)2ZuoL=pGJ$<P4BWkOD|Yv;{MYAdvtP2_TUG5(yxY01^oxkpL12AdvtP2_TUGQj;VRabRR{${!CLQ6X4}6$"
    "gSoiUixki1Hwi3<Q#aAQ=dgfy@}liGc_iNRojd83>XCfn*>wodlvC{0IG{Qh?8%M(zYICQ<>-+ZwbaBeY<!00E2u"
    "(8dO|F@dcNKx&r)kd7QN5D5vS2Ou9K9vveBARZzEACVwI;sKC>4*^J#MB>4D{aBDUEa3sXRuIC`hu{!1Ad@u#zyL"
    "3$AOIKDPyh>|fI#C9Fz&zu4>;h!0}nXhzyl9B;J^b9IN-no4>;h!0}nXhzyl9B;J^b9IN-no4>;h!0}tTqfCCRa5"
    "V<U=?0^FgJg~fgasm!G@IWLPI{--l@P7Yufy4;J2;y)8FakK9Cy4PLCyDS+f_R=M02BaNo+pXoc%CPT;&`4XiQ;&"
    "kCyC;Co+pX$kA!gp(F5NDfW{wq;DHAoc;JBt9(dq^2OfCffd?LV;DHAoc;JBt9(W*<0FGQ<ULa>kW#t5LfN=*LaK"
    "Hfv9B{w^2OMy~fev(_108Un0}eRgfCCOV;D7^=0R8}f{{tYv0000HK#$o<2ft+~9{tp`l2SaS1K+Zg4}QuZGn51Z"
    "JmUZ!$^ZxidBy-elmGw#01O9d7{I2Hj0$NOz^0Lm3TYU?rjd*aX&3-E)CC3(kjrKA0Rw*jdVs(KLjnOnfKdTN1px"
    "s>1p))o1K9!p*#"
)
_WITH_LUNGS = (
    "|4;u>04YEK0000$0000$00000000000000$0000$0000000000009pH0sl|{2mk^A000XAQUDA90ssL31Ox;?0sm"
    "Y85Fm(<kdTm&kdTm&h=_>)WB?Zc0Z(vcZc0!{AXa5^ATTa6HZC(R|BwI*000001~~u$|C7J~E}W15WBfV$-TcJ<-"
    "93jN%5Ud~_t*bNy@%!N>;?Y~`2h8oLI5$i0Kfni<NyJ0KmZot$dQ4P09=|sNkLtfCy~qKaWWt{z%LVwU?#T!!Z?8"
    "3upnUu00anxMDWa5EiSYj_y9oyyhuPInE<9pAgT(kvJg}g7oEm1vjT+{XZ`{wGmKzEH~_!^7py=47py=47o>nEAU"
    "#lk$|sb{1G_Lq3IujFq=XFltX<pGu%w7Nnz{SkLDjaPiuC9)ZMsDZM35kp?e4sBRn~w8OjtnVBvzRM0)7eP=1c-`"
    "8qP)ophN;VIRuIn5s?8UAbISIX$Yk*EO|&OgD46$5djb|aA1Elg2L913qov0C}W6FK|&J500C62A_bFdeazAtn!`"
    "1UzDdr3WcmR>RG=u3fK#SHflbmx@7cl-6<UZu8kqrbEiRT2CXV40L#Q6Onns`iAb&bSaB?_y_9jRPElMwd!HZ`dP"
    "<f!-DOMr~V1N)oRQ&@aA*hB0I${_E-QA~aga9J|5D}IEzyKHA&;SMYqyPbXNJzCE0VXN7Muv?N$pLUXk)n4WkYbT"
    "L2T>?`_ka|lKyuJPkwj9DYP@Mv|2#Nu@S}gzrvCHca03!Z1{x@mNUBkdHrhCU-i;gd=-ae8|9oz^0SP1n4HQWv)u"
    "=`rZJa;v#tnM(ZQ7iFz8h{p0?9xFMG{GS^y*`SI%45N0y<pjV}d&J;X?yRAQ@<&NFsp)5Ob@b07BPFiXaXI00|@m"
    "4OCM^l5h~n00Te=8UU~fqLX&`c(j2UQ$@&%NLml0OoFLho{p%DI^y(oL}Aw#qpBkgxV=PK0+|E5Fysu7NuL5pN3;"
    "bqiXf2y5(yxY01^oxkpL12AdvtP2_TUG5(yxY08*1A5pl3^a5n}28|d4hZ$n2P`fRWXg1agB-=J?pM<4oZ@BlC#?"
    "MiVUj`Q6(@5UU)$fqotl-aI@`|&vM#vFdgM+44*BPs+7vEo3`N0DHA7*QSsl7T=n5F`U(GLRVqIWZ6+14%LvBm+T"
    "mAdn1%rjtOlg9r8nC=B`JZs0=VWgr~g7y7gTU_Q)*1D`UG27JgMIqv`i0}&<Mq!r1!QH%i4#s;)8fvpTcYMKL(jv"
    "O%%2??YJGkov`Mh`t0FvABQ1;FT`2LojE=w=33Jd_|KtR5!J@PUT{Iz|LQJVXXQB0+-010Vw*0+1q!#DjSLNDu@K"
    "%Q!%8D6AlW+<?r1xCjCL-~ov&fXsovB65&3Ad@x%zyL4NSO5k37XSdez<@yG4>0b)0}r%r>pI}T0}m*Scf!01@g~"
    "gcfCCRafH&TG^Ww#uH?IQ@Jn#VCc<0TF7jNFY4mj|@19;<|H!ohidGk8pzylB9jd$L>c=6`V>wp6fJb*XedGq4Mn"
    ">Vim4m|Jx-gxKDix+R+ybd_<zyo-rpZ7do^m)%a;J^b9xNUH_xzRe{zyl9NE=wvq;J^b9EH9v(fCCOZ5J|=kKoS7"
    "_e*8lJ01zV(BZ<HWzzE`ao+HF~o+rUR3F3I1AdDzbBYiwi6U6a3<vdRl#PK=hJWmtE@j2x@PZPxPIpsW06U6a3<v"
    "dRl#PK=hJWmtE@j2x@Pl9|C;GFWFCkPZEP=P@i>F|$)aRbo<-UfiiA9&z_2OfCffd?LV;DHAoc;JBt9(dq^2OfCf"
    "fd?LVAd*0<5HDW5c=6)Jix<7yD#VKyFJ8QO(YtQKym|BH&6_uG-t(=SFmK+xdGqEy-{Q#2mlwzxQdv0x9AMl52OM"
    "y~0S6p#zySvwaG(Pn=s*V?=zs$bIN*Q-4mjWdB!B=<|4{|(00000MFKx%C?5TkpnLaH(n(12ln;K&P(Ax7fX+}52"
    "=j~pdnf<^Kj(ld7yu*!KV%>t{g5DgC`bf;$Ur^&AprO6AfNyM1b|2EgahBQ1P^5i0FT)S2ft(>9{q$A000003<qf"
    "#z^0Lm3TYU?rjd*aX&At!k&Fsy7yvid2nG)9^6v8T?(*)E%VqKb1AhBrKiwD?Ks7K31p)y?1rQVg0C<2r7!+Vpfk"
    "OoV7!+VpfkOoX1JVQB0{__"
)

#: A slice of the body without lungs, and one with two rectangular lungs.
WITHOUT_LUNGS = base64.b85decode(_WITHOUT_LUNGS)
WITH_LUNGS = base64.b85decode(_WITH_LUNGS)
